"""Recipes by name: settings with their source, one file a method."""

from typing import Any

from datafree.engine.plan import Plan
from datafree.engine.recipe import Recipe
from datafree.methods import METHODS
from datafree.recipes.cmi import CMI_RECIPES
from datafree.recipes.csd import CSD_RECIPES
from datafree.recipes.dda import DDA_RECIPES
from datafree.recipes.deepinversion import DEEPINVERSION_RECIPES
from datafree.recipes.dfad import DFAD_RECIPES
from datafree.recipes.stored import STORED_RECIPES
from datafree.recipes.sttss import STTSS_RECIPES

RECIPES: dict[str, Recipe] = {
    **DFAD_RECIPES,
    **STTSS_RECIPES,
    **DEEPINVERSION_RECIPES,
    **CMI_RECIPES,
    **CSD_RECIPES,
    **DDA_RECIPES,
    **STORED_RECIPES,
}
"""Every recipe, by the name that `distill` and `synthesize` accept."""


def find_recipe(name: str) -> Recipe:
    """The recipe `name`. Raises `ValueError`, with all names, if there is none."""
    if name not in RECIPES:
        raise ValueError(f"No recipe is named {name!r}; name one of {', '.join(RECIPES)}.")
    return RECIPES[name]


def recipe_from(settings: dict[str, Any]) -> Recipe:
    """The recipe with settings that `Recipe.settings` returned. Raises `ValueError` if one is missing or not valid."""
    try:
        method = settings["method"]
        return Recipe(METHODS[method["name"]](**method), Plan(**settings["plan"]), "settings of an earlier run")
    except (KeyError, TypeError) as error:
        raise ValueError(f"These are not the settings of a run ({error}); give the run.json of one.") from error
