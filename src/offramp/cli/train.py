"""``offramp train``: a net, a data set and a method, to a run folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import tyro

from offramp.cli.answer import OUTPUT, Answer, Output

if TYPE_CHECKING:
    from offramp.training import Recipe

__all__ = ["Train"]


@dataclass(frozen=True)
class Train:
    """Train a net on a data set with a method, then evaluate every exit on the test set.

    The number of classes and the size of the images come from the data.
    """

    EXAMPLES: ClassVar[str] = """\
  offramp train --data digits --net vgg7:width=8 --method joint --epochs 5 --out runs/joint
  offramp train --data digits --net vgg7:width=8 --method dfs --set beta=0.9 lr=0.05 --out runs/dfs
  offramp train --data uoft-cs/cifar100 --net resnet18 --method dfs --recipe my.yaml --out runs/r18
  offramp train ... --resume     (the same words again: go on where it was stopped)"""

    data: str
    """digits, a folder with train.parquet and test.parquet, an image folder, or a hub name (org/set)"""
    net: str
    """one of `offramp nets`, its arguments after a colon: vgg7:width=16; or your own: file.py:build"""
    method: str
    """one of `offramp methods`"""
    out: str
    """run folder to write"""
    epochs: int | None = None
    """passes over the training set; by default the recipe's"""
    recipe: str | None = None
    """YAML file, or the name of a shipped recipe"""
    set: Annotated[
        tuple[tuple[str, ...], ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="KEY=VALUE ...")
    ] = ()
    """settings of the recipe and options of the method, over those of --recipe"""
    seed: int | None = None
    """of the weights, the order of the images and the augmentation; by default the recipe's"""
    resume: bool = False
    """go on where the run in --out stopped"""
    output: Output = OUTPUT

    def run(self) -> Answer:
        """Train to the end."""
        import torch

        from offramp.methods import method
        from offramp.nets.text import build, check
        from offramp.reports import result_table
        from offramp.training import fit
        from offramp.training.sets import open_set

        recipe = self._recipe()
        method(self.method, recipe.options)  # a mistake here shall not wait until the images are decoded
        torch.manual_seed(recipe.seed)  # a net of the user's own may be made as its file is imported
        check(self.net)
        data = open_set(self.data, recipe)
        torch.manual_seed(recipe.seed)
        net = build(self.net, data.num_classes, data.input_size)
        run = fit(net, data, self.method, recipe, self.out, resume=self.resume)
        return Answer(run.result, result_table(run.result))

    def _recipe(self) -> Recipe:
        from offramp.training import Recipe

        own: Sequence[tuple[str, int | None]] = (("epochs", self.epochs), ("seed", self.seed))
        settings = [text for texts in self.set for text in texts]
        settings += [f"{key}={value}" for key, value in own if value is not None]
        return (Recipe.load(self.recipe) if self.recipe else Recipe()).with_settings(settings)
