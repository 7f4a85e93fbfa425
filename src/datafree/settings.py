"""What every group of settings is: frozen, validated when built, each field documented where it stands."""

from pydantic import BaseModel, ConfigDict, ValidationError


class Settings(BaseModel):
    """Base of all settings. A field's docstring is also the help text of its command line flag."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


def first_line(error: BaseException) -> str:
    """What an error says first, or its kind where it says nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def explain(error: ValidationError) -> str:
    """The first complaint of `error` as one sentence that names the field and what was seen."""
    first = error.errors(include_url=False, include_context=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or error.title
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{error.title}.{field}: {first['msg'].lower()}; seen {first['input']!r}{more}."
