"""Recipes of distillation on a stored set."""

from pathlib import Path

from datafree.data.augment import Augmentation
from datafree.engine.look import Look
from datafree.engine.plan import Plan
from datafree.engine.recipe import Recipe
from datafree.methods.stored import Stored
from datafree.recipes.plans import ADAM, AFFINE

STORED_RECIPES: dict[str, Recipe] = {
    "stored-mnist": Recipe(
        Stored(path=Path("set.safetensors"), look=Look(temperature=4.0, augment=Augmentation(crop=2))),
        Plan(
            rounds=100,
            steps=100,
            batch=128,
            lr=0.01,
            weight_decay=1e-4,
            schedule="cosine",
            log_every=2,
            save_every=10,
            eval_every=10,
            grid_every=0,
        ),
        "this package: plain distillation (Hinton et al. 2015, arXiv 1503.02531) on a stored set",
    ),
    "stored-sttss-mnist": Recipe(
        Stored(path=Path("set.safetensors"), look=Look(temperature=20, augment=AFFINE)),
        Plan(
            rounds=160,
            steps=375,
            batch=64,
            lr=2e-3,
            schedule="cosine",
            log_every=5,
            save_every=10,
            eval_every=20,
            grid_every=0,
            **ADAM,
        ),
        "this package: the student's training of sttss-mnist-light, for a set that was synthesised before",
    ),
}
