"""The base of all settings: frozen, validated when built, each field with its help text."""

import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError, model_validator


@dataclass(frozen=True)
class PerRun:
    """Marks a field that counts images over all processes: each process takes an equal part."""


@dataclass(frozen=True)
class DryRun:
    """Marks a field that a dry run lowers to at most `most`."""

    most: float


Width = Annotated[PositiveInt, Field(le=2**13)]
"""Numbers in a vector or channels of a layer: no network of today has nearly as many, and two such layers take 2 GB."""
Option = bool | int | float | str | None
"""A value that JSON writes in one word: an option of an architecture, an entry of a history."""
Images = Annotated[PositiveInt, PerRun(), DryRun(8)]
"""Images in a batch, over all processes; at most 8 in a dry run."""
Steps = Annotated[PositiveInt, DryRun(3)]
"""Optimizer steps; at most 3 in a dry run."""
Rounds = Annotated[NonNegativeInt, DryRun(1)]
"""Rounds; at most 1 in a dry run."""


class Settings(BaseModel):
    """Base of all settings. A field's docstring is also the help text of its command-line flag.

    A nested group may be given as a dict of the values that differ from the field's default: `CSD(inversion={"steps": 60})`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _over_defaults(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        whole = dict(given)
        for name, value in given.items():
            default = cls.model_fields[name].default if name in cls.model_fields else None
            if isinstance(value, dict) and isinstance(default, Settings):
                defaults = default.model_dump()
                whole[name] = {**defaults, **value} if value.get("name") in (None, defaults.get("name")) else value
        return whole

    def replaced(self, **changes: Any) -> Self:
        """A validated copy with `changes`; for a nested group a dict of changes will do. Raises `ValidationError`."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        for name, value in changes.items():
            group = values.get(name)
            values[name] = group.replaced(**value) if isinstance(group, Settings) and isinstance(value, dict) else value
        return type(self)(**values)

    def dry_run(self) -> Self:
        """A copy, nested groups included, in which each field marked `DryRun` is lowered to its mark."""

        def smaller(flag: str, value: Any, marks: list[Any]) -> Any:
            return min([value, *(mark.most for mark in marks if isinstance(mark, DryRun))])

        return self.changed(smaller)

    def changed(self, change: Callable[[str, Any, list[Any]], Any], path: str = "") -> Self:
        """A copy in which `change(flag, value, marks)` replaces each marked value, in nested groups too.

        `flag` is the field's name on the command line, with `path` before it; `marks` is the metadata of its type.
        """
        update = {}
        for name, field in type(self).model_fields.items():
            value, flag = getattr(self, name), f"{path}.{name.replace('_', '-')}"
            if isinstance(value, Settings):
                update[name] = value.changed(change, flag)
            elif any(isinstance(mark, PerRun | DryRun) for mark in field.metadata):
                update[name] = change(flag, value, field.metadata)
        return self.model_copy(update=update)


def unknown(kind: str, name: str, names: Iterable[str], others: str = "") -> ValueError:
    """The error for a `name` that is not among `names`, the likeliest of them first; `others` says what else would do."""
    known = list(names)
    likely = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {likely[0]}? Else " if likely else ""
    return ValueError(f"No {kind} is named {name!r}; {hint}name one of {', '.join(known)}{others}.")


MOST_SEEN = 200  # characters of a wrong value in its message


def first_line(error: BaseException) -> str:
    """First line of an error's message, or the name of its type if the message is empty."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def explain(error: ValidationError) -> str:
    """The first entry of `error` as one sentence that names the field and the value."""
    first = error.errors(include_url=False, include_context=False)[0]
    group = re.findall(r"\w+", error.title)[-1]  # pydantic wraps it: nullable[function-after[_check(), Plan]]
    fields = [str(part) for part in first["loc"] if "[" not in str(part)]
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    seen = repr(first["input"])
    short = seen if len(seen) <= MOST_SEEN else f"{seen[:MOST_SEEN]}..."
    return f"{'.'.join([group, *fields])}: {first['msg'].lower()}; seen {short}{more}."
