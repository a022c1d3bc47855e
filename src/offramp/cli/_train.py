"""``offramp train``: a net, a data set and a method, to a run folder."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from offramp.cli._answer import OUTPUT, Answer, OutputFlags
from offramp.errors import UserError
from offramp.output_paths import checked_path

if TYPE_CHECKING:
    from offramp.recipes import Recipe

__all__ = ["TrainCommand"]


@dataclass(frozen=True, kw_only=True)
class TrainCommand:
    """Train a net on a data set with a method, then evaluate every exit on the test set.

    The number of classes and the size of the images come from the data. With --resume all settings
    come from the run folder; flags that are given too must agree with it. Only --epochs may be more: they
    extend a run whose schedule and method do not depend on the number of epochs.
    """

    EXAMPLES: ClassVar[str] = """\
  offramp train --data digits --net vgg7:width=8 --method joint --epochs 5 --out runs/joint
  offramp train --data digits --net vgg7:width=8 --method dfs --set beta=0.9 lr=0.05 --out runs/dfs
  offramp train --data uoft-cs/cifar100 --net resnet18 --method dfs --recipe my.yaml --out runs/r18
  offramp train --data digits --net my.py:build --method dfs --init resnet18.pth --out runs/tuned
  offramp train --data reviews --tokenizer bert --net my.py:bert --method dfs --out runs/reviews
  offramp train --resume --out runs/r18                 (go on where it was stopped)
  offramp train --resume --out runs/r18 --epochs 200    (more epochs: schedule constant or multistep)"""
    UNLESS: ClassVar[dict[str, str]] = dict.fromkeys(("data", "net", "method"), "--resume")  # else required

    data: Annotated[
        tuple[tuple[str, ...], ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="SOURCE ...")
    ] = ()
    """digits, rooms, a folder with train.parquet and test.parquet, an image folder, or a hub name (org/set);
    several sets, for tasks of their own, by names: depth=path/to/a segmentation=path/to/b"""
    net: str | None = None
    """one of `offramp nets`, its arguments after a colon: vgg7:width=16; or your own: file.py:build"""
    method: str | None = None
    """one of `offramp methods`, or several joined by +: dfs+kd; `offramp methods NAME` tells its options"""
    out: str
    """run folder to write"""
    tokenizer: str | None = None
    """folder of the tokenizer, for texts; none is guessed"""
    epochs: int | None = None
    """passes over the training set; by default the recipe's"""
    recipe: str | None = None
    """YAML file, or the name of a shipped recipe"""
    set: Annotated[
        tuple[tuple[str, ...], ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="KEY=VALUE ...")
    ] = ()
    """settings of the recipe and options of the method, over those of --recipe"""
    seed: int | None = None
    """seed of the weights, the order of the images and the augmentation; by default the recipe's"""
    init: str | None = None
    """weights to start from: a finished run, a .safetensors file, or one of torch.save, of the net or of the
    backbone that it was made of; heads may be missing or have other classes"""
    resume: bool = False
    """go on where the run in --out stopped; or, with more --epochs, where it ended"""
    report: str | None = None
    """page to keep up to date while the run trains, as `offramp report` writes it at the end"""
    output: OutputFlags = OUTPUT

    def run(self) -> Answer:
        """Train the network to the end of its recipe."""
        import torch

        from offramp.cli._live_report import LiveReport
        from offramp.nets.text import build, check
        from offramp.reports import result_table
        from offramp.runs.recorded import recorded_data, recorded_net
        from offramp.runs.sets import open_set
        from offramp.runs.several import named_sources
        from offramp.runs.weight_files import weight_file
        from offramp.training import fit

        folder = checked_path(self.out)
        record = self._record()
        recipe = self._recipe(record)
        self._check_method(record, recipe)  # a mistake here shall not wait until the images are decoded
        live = None if self.report is None else LiveReport(self.report, folder)
        if self.init is not None:
            weight_file(self.init)
        torch.manual_seed(recipe.seed)  # a net of the user's own may be made as its file is imported
        net = None
        if self.net is not None:
            check(self.net)
        elif record is not None:
            net = recorded_net(folder, record)
        sources = [source for words in self.data for source in words]
        if not sources and record is not None:
            data = recorded_data(folder, record, recipe)
        else:
            data = open_set(named_sources(sources), recipe)
        if net is None:
            torch.manual_seed(recipe.seed)
            net = build(str(self.net), input_size=data.input_size, targets=data.targets)
        each_epoch = None if live is None else live.epoch
        with live or contextlib.nullcontext():
            run = fit(
                net,
                data,
                self.method,
                recipe,
                folder,
                resume=self.resume,
                init=self.init,
                each_epoch=each_epoch,
            )
        if live is not None:
            live.end(self.net)
        return Answer(run.result.to_json(), result_table(run.result))

    def _record(self) -> dict[str, Any] | None:
        """The record of the run to go on with; None starts one.

        Raises:
            UserError: There is no such run, and not enough is given to start it.
        """
        from offramp.runs.beginning import may_begin
        from offramp.runs.record import read_record

        folder = checked_path(self.out)
        if self.resume and not may_begin(folder):
            return read_record(folder)
        missing = [f"--{name}" for name in self.UNLESS if not getattr(self, name)]
        if missing:
            raise UserError(f"no run in {folder} to resume; start one with {', '.join(missing)}")
        return None

    def _recipe(self, record: dict[str, Any] | None) -> Recipe:
        from offramp.recipes import Recipe

        flags: Sequence[tuple[str, int | None]] = (("epochs", self.epochs), ("seed", self.seed))
        settings = [text for texts in self.set for text in texts]
        settings += [f"{key}={value}" for key, value in flags if value is not None]
        if self.recipe is not None:
            recipe = Recipe.load(self.recipe)
        else:
            recipe = Recipe() if record is None else Recipe.from_dict(record["recipe"])
        recipe = recipe.with_settings(settings)
        return recipe if self.tokenizer is None else recipe.replace(tokenizer=self.tokenizer)

    def _check_method(self, record: dict[str, Any] | None, recipe: Recipe) -> None:
        from offramp.methods import method
        from offramp.training.trained_backbone import check_trained_backbone

        if self.method is None:
            return
        name = method(self.method).name
        if record is not None and name != record["method"]:
            raise UserError(
                f"{self.out} holds a run of method {record['method']}, not {name}; leave --method out, or "
                "choose another folder"
            )
        chosen = method(self.method, recipe.options)
        if record is None:
            check_trained_backbone(chosen, str(self.net), self.init)
