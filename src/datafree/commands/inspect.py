"""`datafree inspect`."""

from pathlib import Path

from datafree.commands.arguments import Packages
from datafree.network import card_json, load, parameters
from datafree.profile import latency_ms, multiply_adds
from datafree.runtime import fastest_layout


def inspect(file: Path, *, allow_code: Packages = ()) -> None:
    """Show a network file: card, weights, multiply-adds, size, latency here.

    Parameters
    ----------
    file
        A network file.
    allow_code
        Packages whose code may be imported and called to build the network.
    """
    network = load(file, allow_code)
    print(card_json(network.card))
    print(f"weights         {parameters(network.module):,}")
    print(f"multiply-adds   {multiply_adds(network.module, network.card.inputs):,} an input")
    print(f"file            {file.stat().st_size / 2**20:.2f} MiB")
    fastest_layout(network.module)
    print(f"latency         {latency_ms(network.module, network.card.inputs):.2f} ms an input on this CPU")
