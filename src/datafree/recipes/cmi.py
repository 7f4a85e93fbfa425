"""Recipes of CMI."""

from datafree.engine.plan import Plan
from datafree.engine.recipe import Recipe
from datafree.methods.cmi import CMI

CMI_RECIPES: dict[str, Recipe] = {
    "cmi-cifar10": Recipe(
        CMI(adversary=0.5),
        Plan(
            rounds=200,
            images_per_round=256,
            pool_size=200 * 256,
            steps=400,
            batch=128,
            lr=0.1,
            weight_decay=1e-4,
            schedule="steps",
            milestones=(120, 150, 180),
            log_every=1,
            save_every=5,
            eval_every=5,
            grid_every=20,
        ),
        "Fang et al. 2021, arXiv 2105.08584, WRN-40-2 on CIFAR-10, the authors' script from scratch",
    ),
}
