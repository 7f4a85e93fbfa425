"""The command `datafree synthesize`, with flags for the settings of the recipe that it is called with."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

import datafree
from datafree.api.inspect import describe_set
from datafree.cli.arguments import NOT_ASKED, Asked, Packages, flag_value, preset
from datafree.core.distributed import launch_rank
from datafree.core.runtime import Precision
from datafree.core.terminal import show
from datafree.engine.method import Method
from datafree.recipes import RECIPES, find_recipe

UNNAMED = "sttss-mnist"  # its flags are shown if no recipe is named


def synthesize_command(tokens: list[str]) -> Callable[..., None]:
    """The synthesize command with the flags and defaults of the recipe that `tokens` name."""
    name = flag_value(tokens, "--recipe")
    recipe = find_recipe(name or UNNAMED)

    def command(
        teacher: Path | None = None,
        *,
        n: int,
        out: Path,
        recipe_name: Annotated[str | None, Parameter(name="--recipe")] = None,
        method: Method | None = None,
        shard: str | None = None,
        batch: int = 100,
        pixels: Literal["uint8", "float16"] = "uint8",
        targets: bool = True,
        logits: bool = True,
        device: str = "auto",
        precision: Precision = "auto",
        seed: int = 0,
        allow_code: Packages = (),
        asked: Asked = NOT_ASKED,
    ) -> None:
        """Make a transfer set from a teacher, without a student; the same command resumes.

        Args:
            teacher: A network file; make one with datafree pack or datafree teach. Left out with --teacher-command.
            n: Number of images of the whole set.
            out: The set's file, .safetensors; shards are named after it.
            recipe_name: Name of a recipe of a method that needs no student: its settings with their source.
            method: Settings of the method.
            shard: Make only one part of several, for example 3/16; under torchrun each process makes its own part.
            batch: Images made together; a kill loses at most as many.
            pixels: Type of a stored image: uint8, or float16 in [0, 1].
            targets: Store the soft targets that images were made for.
            logits: Store the teacher's logits.
            device: auto, cpu, cuda, cuda:1, ...
            precision: fp32, or bf16 autocast; auto: bf16 on a GPU that computes in it, else fp32.
            seed: Seed of all random numbers.
            allow_code: Packages whose code may be imported and called to build the teacher.
        """
        if not name:
            raise ValueError(f"Name a recipe with --recipe: {', '.join(RECIPES)}.")
        rank, world = launch_rank()
        with asked.teacher(teacher) as (source, inputs):
            made = datafree.synthesize(
                source, recipe.changed(method, None), n, inputs=inputs, out=out,
                shard=part_of(shard) if shard else (rank + 1, world), batch=batch, pixels=pixels, targets=targets,
                logits=logits, device=device, precision=precision, seed=seed, allow_code=allow_code,
            )  # fmt: skip
        show(f"finished: {made.path}")
        for what, text in describe_set(made).items():
            show(f"  {what}: {text}")

    command.__annotations__ |= {"method": preset(recipe.method) | None}
    return command


def part_of(text: str) -> tuple[int, int]:
    """Shard and number of shards in `3/16`. Raises `ValueError` for text of another form."""
    shard, _, shards = text.partition("/")
    if not (shard.isdigit() and shards.isdigit()):
        raise ValueError(f"--shard {text!r} is not of the form SHARD/SHARDS; write 3/16.")
    return int(shard), int(shards)
