"""Types and parsing of arguments that several commands share."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from pydantic import PositiveFloat, PositiveInt, create_model

import datafree
from datafree.core.settings import Settings
from datafree.core.spec import InputSpec

Numbers = Annotated[tuple[float, ...], Parameter(consume_multiple=True)]
_Channels = Annotated[tuple[float, ...], Parameter(consume_multiple=True, negative="", show_default=False)]
Packages = Annotated[tuple[str, ...], Parameter(consume_multiple=True)]
EvalData = Annotated[str | None, Parameter(name="--eval")]
AsJson = Annotated[bool, Parameter(name="--json", negative="")]


@Parameter(name="*")
class Asked(Settings):
    """How a teacher is asked that is a program, and what its inputs look like; each field is a flag."""

    teacher_command: str | None = None
    """A program that is the teacher: reads batches as .npy on standard input, writes logits as such (docs/blackbox.md)."""
    inputs: str | None = None
    """CHANNELSxHEIGHTxWIDTH of one input: needed with --teacher-command; else in place of what the teacher's file says."""
    mean: _Channels = ()
    """With --inputs: mean of each channel, of pixels in [0, 1], which is subtracted; left out: 0."""
    std: _Channels = ()
    """With --inputs: standard deviation of each channel, by which inputs are divided; left out: 1."""
    teacher_batch: PositiveInt = 256
    """Most images that --teacher-command is asked about at once."""
    teacher_timeout: PositiveFloat = 600.0
    """Most seconds for one answer of --teacher-command, the first one with its start."""

    @contextmanager
    def teacher(self, file: Path | None) -> Iterator[tuple[Any, InputSpec | None]]:
        """The teacher, and its inputs if they are given; a command is ended afterwards.

        Raises `ValueError` unless there is either `file` or a command, with what it needs.
        """
        if (self.mean or self.std) and not self.inputs:
            raise ValueError("--mean and --std belong to --inputs; pass that too, as --inputs 3x32x32.")
        shape = shape_of(self.inputs) if self.inputs else None
        inputs = InputSpec(shape=shape, mean=self.mean or (0.0,), std=self.std or (1.0,)) if shape else None
        if file is not None and self.teacher_command is not None:
            raise ValueError(f"There are two teachers, {file} and --teacher-command; give one of them.")
        if file is not None:
            yield file, inputs
        elif self.teacher_command is None:
            raise ValueError("There is no teacher; name its file, or pass --teacher-command 'PROGRAM ...' with --inputs.")
        elif inputs is None:
            raise ValueError(
                "A command does not say what its inputs look like; pass --inputs 3x32x32, and --mean and --std unless it takes "
                "pixels in [0, 1]."
            )
        else:
            with datafree.Command(self.teacher_command, self.teacher_timeout) as command:
                yield datafree.BlackBox(command, inputs, self.teacher_batch), None


NOT_ASKED = Asked()


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
