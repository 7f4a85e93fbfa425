"""What every group of settings is: frozen, validated when built, each field documented where it stands."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt, ValidationError, model_validator


@dataclass(frozen=True)
class PerRun:
    """Marks a field that counts images of the whole run: each of several processes takes its part."""


@dataclass(frozen=True)
class DryRun:
    """Marks a field that is at most this in a dry run."""

    most: float


Images = Annotated[PositiveInt, PerRun(), DryRun(8)]
"""A batch: images handled together, over all processes."""
Steps = Annotated[PositiveInt, DryRun(3)]
"""Optimiser steps of which a dry run takes a few."""
Rounds = Annotated[NonNegativeInt, DryRun(1)]
"""Rounds of which a dry run takes at most one."""


class Settings(BaseModel):
    """Base of all settings. A field's docstring is also the help text of its command line flag.

    A group within settings may be given as a dict of what differs from this field's default: `CSD(inversion={"steps": 60})`.
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
                known = default.model_dump()
                whole[name] = {**known, **value} if value.get("name") in (None, known.get("name")) else value
        return whole

    def replaced(self, **changes: Any) -> Self:
        """A validated copy with `changes`; a dict for a group holds what changes within it."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        for name, value in changes.items():
            group = values.get(name)
            values[name] = group.replaced(**value) if isinstance(group, Settings) and isinstance(value, dict) else value
        return type(self)(**values)

    def dry_run(self) -> Self:
        """The same settings at the smallest size that still goes through everything, groups within them included."""

        def smaller(flag: str, value: Any, marks: list[Any]) -> Any:
            return min([value, *(mark.most for mark in marks if isinstance(mark, DryRun))])

        return self.changed(smaller)

    def changed(self, change: Callable[[str, Any, list[Any]], Any], path: str = "") -> Self:
        """A copy in which `change(flag, value, marks)` takes the place of each marked value, in groups within it too.

        `flag` is the field's name as on the command line, below `path`; `marks` are what its type is annotated with.
        """
        update = {}
        for name, field in type(self).model_fields.items():
            value, flag = getattr(self, name), f"{path}.{name.replace('_', '-')}"
            if isinstance(value, Settings):
                update[name] = value.changed(change, flag)
            elif any(isinstance(mark, PerRun | DryRun) for mark in field.metadata):
                update[name] = change(flag, value, field.metadata)
        return self.model_copy(update=update)


def first_line(error: BaseException) -> str:
    """What an error says first, or its kind where it says nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def explain(error: ValidationError) -> str:
    """The first complaint of `error` as one sentence that names the field and what was seen."""
    first = error.errors(include_url=False, include_context=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or error.title
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{error.title}.{field}: {first['msg'].lower()}; seen {first['input']!r}{more}."
