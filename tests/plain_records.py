"""The content of a run.json of small images, for folders of runs that nobody trained."""

from typing import Any


def plain_record(
    net: dict[str, Any], data: str, *, method: str, seed: int, recipe: dict[str, Any], **rest: Any
):
    """A record with some settings of its recipe; those that it lacks are at their defaults."""
    images = {"name": data, "source": data, "classes": ["a", "b"], "input_size": [1, 8, 8]}
    levels = {"mean": [0.5], "std": [0.25]}
    recipe = {"seed": seed, **recipe}
    about = {"net": net, "method": method, "options": {}, "recipe": recipe, "seed": seed}
    return {**about, "data": images, "normalisation": levels, **rest}
