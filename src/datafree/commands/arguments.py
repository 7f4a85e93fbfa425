"""What several commands take."""

from typing import Annotated

from cyclopts import Parameter

Numbers = Annotated[tuple[float, ...], Parameter(consume_multiple=True)]
Packages = Annotated[tuple[str, ...], Parameter(consume_multiple=True)]
EvalData = Annotated[str | None, Parameter(name="--eval")]


def shape_of(text: str) -> tuple[int, int, int]:
    """`3x32x32` as numbers. Raises `ValueError`."""
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(part.isdigit() for part in parts):
        raise ValueError(f"--inputs {text!r} is not CHANNELSxHEIGHTxWIDTH; write 1x32x32 or 3x224x224.")
    channels, height, width = map(int, parts)
    return channels, height, width
