"""Recipes of DeepInversion, CMI and CSD, the methods that match batch-norm statistics."""

from datafree.methods.cmi import CMI
from datafree.methods.csd import CSD
from datafree.methods.deepinversion import DeepInversion
from datafree.plan import Plan
from datafree.recipe import Recipe
from datafree.recipes.plans import set_plan

INVERSION_RECIPES: dict[str, Recipe] = {
    "deepinversion-cifar10": Recipe(
        DeepInversion(batch=256, steps=2000, lr=0.05, statistics=10, variation=2.5e-5),
        set_plan(50_000, new=256, epochs=200, batch=128, lr=0.1),
        "Yin et al. 2020, arXiv 1912.08795, ResNet-34 on CIFAR-10 with its code's parameters; 50,176 images and the plan: ours",
    ),
    "cmi-cifar10": Recipe(
        CMI(adversary=0.5),
        Plan(
            rounds=200,
            new=256,
            keep=200 * 256,
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
    "csd-cifar10": Recipe(
        CSD(batch=200, first=80_000, first_steps=500, steps=200),
        Plan(
            rounds=400,
            warmup=200,
            new=400,
            keep=400 * 400,
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
