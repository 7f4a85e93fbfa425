"""Recipes of DeepInversion."""

from datafree.engine.recipe import Recipe
from datafree.methods.deepinversion import DeepInversion
from datafree.recipes.plans import set_plan

DEEPINVERSION_RECIPES: dict[str, Recipe] = {
    "deepinversion-cifar10": Recipe(
        DeepInversion(inversion={"batch": 256, "steps": 2000, "lr": 0.05, "statistics": 10}, total_variation=2.5e-5),
        set_plan(50_000, images_per_round=256, epochs=200, batch=128, lr=0.1),
        "Yin et al. 2020, arXiv 1912.08795, ResNet-34 on CIFAR-10, settings of its code; 50,176 images and the plan (ours)",
    ),
}
