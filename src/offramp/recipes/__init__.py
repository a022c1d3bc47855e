"""How to train: the recipe, its file format, and the published recipes."""

from offramp.recipes.recipe import Recipe

__all__ = ["Recipe"]
