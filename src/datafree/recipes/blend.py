"""Recipes of blends."""

from datafree.engine.recipe import Recipe
from datafree.methods.blend import Blend
from datafree.recipes.dfad import DFAD_RECIPES

_LIGHT = DFAD_RECIPES["dfad-mnist-light"]

BLEND_RECIPES: dict[str, Recipe] = {
    "blend-dfad-mnist-light": Recipe(
        Blend(host=_LIGHT.method),
        _LIGHT.plan,
        "ours: dfad-mnist-light with 3 procedural images in 10; docs/methods/blend.md",
    ),
}
