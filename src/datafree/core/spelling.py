"""A student in one word: an architecture with its options, `cifar-resnet,depth=26,width=12`."""

import json
from collections.abc import Mapping

from datafree.core.settings import Option


def spelled(architecture: str, options: Mapping[str, Option]) -> str:
    """The text that `parse_spelling` reads."""
    return ",".join([architecture, *(f"{name}={_word(value)}" for name, value in options.items())])


def parse_spelling(text: str) -> tuple[str, dict[str, Option]]:
    """Architecture and options in `NAME` or `NAME,option=value,...`; a value is JSON in one word, or else a text.

    Raises `ValueError` for an option without a value or given twice.
    """
    architecture, *parts = text.split(",")
    options: dict[str, Option] = {}
    for part in parts:
        name, equals, value = part.partition("=")
        if not name.strip() or not equals or name.strip() in options:
            raise ValueError(
                f"The student {text!r} has an option {part!r} that is not NAME=VALUE or is given twice; write "
                "cifar-resnet,depth=26,width=12, for example."
            )
        options[name.strip()] = _value(value.strip())
    return architecture.strip(), options


def _word(value: Option) -> str:
    """A text as it is, if it is read as the same text; else JSON."""
    return value if isinstance(value, str) and _value(value) == value else json.dumps(value)


def _value(word: str) -> Option:
    try:
        value = json.loads(word)
    except (ValueError, RecursionError):
        return word
    return value if value is None or isinstance(value, bool | int | float | str) else word
