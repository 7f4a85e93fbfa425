"""Types and parsing of arguments that several commands share."""

from copy import copy
from typing import Annotated, Any

from cyclopts import Parameter
from pydantic import create_model

from datafree.core.settings import Settings

Numbers = Annotated[tuple[float, ...], Parameter(consume_multiple=True)]
Packages = Annotated[tuple[str, ...], Parameter(consume_multiple=True)]
EvalData = Annotated[str | None, Parameter(name="--eval")]
AsJson = Annotated[bool, Parameter(name="--json", negative="")]


def shape_of(text: str, flag: str = "--inputs") -> tuple[int, int, int]:
    """Channels, height and width in `3x32x32`. Raises `ValueError`, with `flag`, for text of another form."""
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(part.isdigit() for part in parts):
        raise ValueError(f"{flag} {text!r} is not CHANNELSxHEIGHTxWIDTH; write 1x32x32 or 3x224x224.")
    channels, height, width = map(int, parts)
    return channels, height, width


def preset(settings: Settings) -> type[Settings]:
    """A subclass of the settings' class with their values as defaults, which flags and help then show."""
    fields: dict[str, Any] = {}
    for name, field in type(settings).model_fields.items():
        field, value = copy(field), getattr(settings, name)
        field.default = value
        kind: Any = preset(value) if isinstance(value, Settings) else field.annotation
        fields[name] = (Annotated[kind, Parameter(parse=False)] if name == "name" else kind, field)
    return create_model(type(settings).__name__, __base__=type(settings), **fields)


def flag_value(tokens: list[str], flag: str) -> str | None:
    """The value of `flag` among `tokens`, given as `--flag VALUE` or `--flag=VALUE`; None if it is missing."""
    for i, token in enumerate(tokens):
        if token == flag and i + 1 < len(tokens):
            return tokens[i + 1]
        if token.startswith(f"{flag}="):
            return token.partition("=")[2]
    return None
