"""Recipes of CSD."""

from datafree.engine.plan import Plan
from datafree.engine.recipe import Recipe
from datafree.methods.csd import CSD

CSD_RECIPES: dict[str, Recipe] = {
    "csd-cifar10": Recipe(
        CSD(inversion={"batch": 200, "steps": 200}, warmup_images=80_000, warmup_steps=500),
        Plan(
            rounds=400,
            warmup=200,
            images_per_round=400,
            pool_size=400 * 400,
            steps=2000,
            batch=128,
            lr=0.1,
            weight_decay=1e-4,
            schedule="cosine",
            log_every=1,
            save_every=2,
            eval_every=5,
            grid_every=20,
        ),
        "Luo et al. 2023, arXiv 2307.04542, WRN-40-2 on CIFAR-10, as the code of DDA (arXiv 2410.17606) runs it",
    ),
}
