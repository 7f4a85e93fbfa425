"""Recipes of procedural images."""

from datafree.data.augment import Augmentation
from datafree.engine.look import Look
from datafree.engine.plan import Plan
from datafree.engine.recipe import Recipe
from datafree.methods.procedural import Procedural

_AFFINE = Augmentation(shift=0.1, scale=0.1, degrees=10)


def _light(augment: Augmentation, data: str) -> Recipe:
    """Images chosen from sixteen times as many, each seen about forty times; minutes for a small teacher on one core."""
    return Recipe(
        Procedural(supply={"candidates": 16}, look=Look(temperature=20, augment=augment, mixup=1.0)),
        Plan(
            rounds=220,
            warmup=20,
            images_per_round=64,
            pool_size=20_000,
            steps=40,
            batch=64,
            lr=0.05,
            weight_decay=1e-4,
            schedule="cosine",
            ema_decay=0.999,
            log_every=5,
            save_every=20,
            eval_every=0,
            grid_every=100,
        ),
        f"ours, for CPUs, {data}: after Frank & Davis 2025, arXiv 2411.12817; docs/methods/procedural.md",
    )


PROCEDURAL_RECIPES: dict[str, Recipe] = {
    "procedural-light": _light(_AFFINE, "grey images of 28 to 32 pixels"),
    "procedural-light-colour": _light(_AFFINE.replaced(flip=True), "colour images of 32 pixels"),
}
