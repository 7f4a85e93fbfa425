"""`datafree inspect`, of networks and of transfer sets."""

from pathlib import Path

import datafree
from datafree.cli.arguments import Packages


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
    found = datafree.inspect(file, preview=preview, allow_code=allow_code)
    print(found.pop("card"))
    width = max(map(len, found)) + 2
    for name, value in found.items():
        print(f"{name:<{width}} {value}")
