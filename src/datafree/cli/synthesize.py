"""`datafree synthesize`, whose flags are made for the recipe that it is called with."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

import datafree
from datafree.api.inspect import describe_set
from datafree.cli.arguments import Packages, flag_value, preset
from datafree.core.distributed import launch_rank
from datafree.core.runtime import Precision
from datafree.engine.method import Method
from datafree.recipes import RECIPES, find_recipe

UNNAMED = "sttss-mnist"  # whose flags are shown where no recipe is named


def synthesize_command(tokens: list[str]) -> Callable[..., None]:
    """The synthesize command with the flags and defaults of the recipe that `tokens` name."""
    name = flag_value(tokens, "--recipe")
    recipe = find_recipe(name or UNNAMED)

    def command(
        teacher: Path,
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
    ) -> None:
        """Make a transfer set from a teacher alone; the same line again resumes.

        Parameters
        ----------
        teacher
            A network file; make one with datafree pack or datafree teach.
        n
            Images of the whole set.
        out
            The set's file, .safetensors; shards are named after it.
        recipe_name
            Named settings with their source, of a method that needs no student.
        method
            Settings of the method.
        shard
            Make one part of several, 3/16 say, here; under torchrun each process makes its own.
        batch
            Images made together, and the most that a kill can cost.
        pixels
            How an image is kept: uint8, or float16 in [0, 1].
        targets
            Keep the soft targets that images were made for.
        logits
            Keep the teacher's logits.
        device
            auto, cpu, cuda, cuda:1, ...
        precision
            fp32, or bf16 autocast; auto: bf16 on a GPU that has it, else fp32.
        seed
            Seed of everything random.
        allow_code
            Packages whose code may be imported and called to build the teacher.
        """
        if not name:
            raise ValueError(f"Name a recipe with --recipe: {', '.join(RECIPES)}.")
        rank, world = launch_rank()
        made = datafree.synthesize(
            teacher, recipe.changed(method, None), n, out=out, shard=part_of(shard) if shard else (rank + 1, world),
            batch=batch, pixels=pixels, targets=targets, logits=logits, device=device, precision=precision, seed=seed,
            allow_code=allow_code,
        )  # fmt: skip
        print(f"finished: {made.path}")
        for what, words in describe_set(made).items():
            print(f"  {what}: {words}")

    command.__annotations__ |= {"method": preset(recipe.method) | None}
    return command


def part_of(text: str) -> tuple[int, int]:
    """`3/16` as numbers. Raises `ValueError`."""
    shard, _, shards = text.partition("/")
    if not (shard.isdigit() and shards.isdigit()):
        raise ValueError(f"--shard {text!r} is not of the form 3/16.")
    return int(shard), int(shards)
