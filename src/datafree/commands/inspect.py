"""`datafree inspect`, of networks and of transfer sets."""

from pathlib import Path

from datafree import setfile
from datafree.commands.arguments import Packages
from datafree.images import save_grid
from datafree.modes import fastest_layout
from datafree.network import card_json, load, parameters
from datafree.profile import latency_ms, multiply_adds

PREVIEW_IMAGES = 100


def inspect(file: Path, *, preview: Path | None = None, allow_code: Packages = ()) -> None:
    """Show a network file (card, weights, multiply-adds, size, latency here) or a transfer set (counts, classes, entropy).

    Parameters
    ----------
    file
        A network file, or a transfer set; its common name where it is in shards.
    preview
        PNG with images of the set to write; left out: beside the set, as NAME.preview.png.
    allow_code
        Packages whose code may be imported and called to build the network.
    """
    if setfile.is_set(file):
        _set(file, preview or file.with_suffix(".preview.png"))
    else:
        _network(file, allow_code)


def _network(file: Path, allow_code: tuple[str, ...]) -> None:
    network = load(file, allow_code)
    print(card_json(network.card))
    print(f"weights         {parameters(network.module):,}")
    print(f"multiply-adds   {multiply_adds(network.module, network.card.inputs):,} an input")
    print(f"file            {file.stat().st_size / 2**20:.2f} MiB")
    fastest_layout(network.module)
    print(f"latency         {latency_ms(network.module, network.card.inputs):.2f} ms an input on this CPU")


def _set(file: Path, preview: Path) -> None:
    found = setfile.read_set(file)
    print(found.card.model_dump_json(indent=2))
    for what, words in setfile.describe(found).items():
        print(f"{what}: {words}")
    save_grid(setfile.as_uint8(found.take(setfile.spread(len(found), PREVIEW_IMAGES))), preview)
    print(f"preview: {preview}")
