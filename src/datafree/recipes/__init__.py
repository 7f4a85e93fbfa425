"""Recipes by name: settings with their source, one file a method."""

from typing import Any

from datafree.core.settings import unknown
from datafree.engine.plan import Plan
from datafree.engine.recipe import Recipe
from datafree.methods import METHODS
from datafree.recipes.blend import BLEND_RECIPES
from datafree.recipes.cmi import CMI_RECIPES
from datafree.recipes.csd import CSD_RECIPES
from datafree.recipes.dafl import DAFL_RECIPES
from datafree.recipes.dda import DDA_RECIPES
from datafree.recipes.deepinversion import DEEPINVERSION_RECIPES
from datafree.recipes.dfad import DFAD_RECIPES
from datafree.recipes.dfq import DFQ_RECIPES
from datafree.recipes.fast import FAST_RECIPES
from datafree.recipes.nayer import NAYER_RECIPES
from datafree.recipes.procedural import PROCEDURAL_RECIPES
from datafree.recipes.stored import STORED_RECIPES
from datafree.recipes.sttss import STTSS_RECIPES
from datafree.recipes.zskt import ZSKT_RECIPES

RECIPES: dict[str, Recipe] = {
    **DFAD_RECIPES,
    **DAFL_RECIPES,
    **ZSKT_RECIPES,
    **DFQ_RECIPES,
    **STTSS_RECIPES,
    **DEEPINVERSION_RECIPES,
    **CMI_RECIPES,
    **CSD_RECIPES,
    **FAST_RECIPES,
    **NAYER_RECIPES,
    **DDA_RECIPES,
    **PROCEDURAL_RECIPES,
    **BLEND_RECIPES,
    **STORED_RECIPES,
}
"""Every recipe, by the name that `distill` and `synthesize` accept."""


def find_recipe(name: str) -> Recipe:
    """The recipe `name`. Raises `ValueError`, with all names, if there is none."""
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    return RECIPES[name]


def recipe_from(settings: dict[str, Any]) -> Recipe:
    """The recipe with settings that `Recipe.settings` returned. Raises `ValueError` if one is missing or not valid."""
    try:
        method = settings["method"]
        return Recipe(METHODS[method["name"]](**method), Plan(**settings["plan"]), "settings of an earlier run")
    except (KeyError, TypeError) as error:
        raise ValueError(f"These are not the settings of a run ({error}); give the run.json of one.") from error
