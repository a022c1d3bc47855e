"""The runs of a sweep: their names and folders, and a check that each could start."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offramp.errors import UserError, shown
from offramp.methods.bound import BoundMethod
from offramp.nets import Net
from offramp.nets.text import build, check
from offramp.recipes.recipe import Recipe
from offramp.runs.record import read_record
from offramp.runs.sets import SETTINGS, open_set
from offramp.runs.weight_files import weight_file
from offramp.sweeps._jobs import Job
from offramp.sweeps.file import Entry, Sweep
from offramp.tasks.outputs import are_exits
from offramp.training.batch_size import check_batch_size
from offramp.training.setup import set_up
from offramp.training.threads import threads_given_back
from offramp.training.trained_backbone import check_trained_backbone

if TYPE_CHECKING:
    from offramp.data import OpenedData

__all__ = ["Trial", "check_trials", "trials"]


@dataclass(frozen=True)
class Trial:
    """One run of a sweep.

    Attributes:
        name: Its folder within the sweep's, e.g. ``dfs/seed-0``.
        folder: Its folder.
        entry: Its method.
        recipe: The entry's, with this run's seed and learning rate.
    """

    name: str
    folder: Path
    entry: Entry
    recipe: Recipe

    @property
    def finished(self) -> bool:
        """Whether the run is done, with all the epochs that the sweep asks for."""
        if not (self.folder / "result.json").is_file():
            return False
        return bool(read_record(self.folder)["recipe"]["epochs"] == self.recipe.epochs)

    def job(self, sweep: Sweep) -> Job:
        """The command that starts it or goes on with it."""
        plain = Recipe().to_dict()
        always = ("epochs", "milestones")  # also at their defaults, since a run may have had fewer before
        settings = {k: v for k, v in self.recipe.to_dict().items() if v != plain[k] or k in always}
        settings |= settings.pop("options", {})
        data = sweep.data
        sources = [data] if isinstance(data, str) else [f"{name}={source}" for name, source in data.items()]
        words = ["train", *(f"--data={source}" for source in sources), f"--net={self.entry.net}"]  # also a -x
        words += [f"--method={self.entry.method.name}", f"--out={self.folder}", "--resume"]
        words += [f"--init={self.entry.init}"] if self.entry.init is not None else []
        words += [f"--set={key}={json.dumps(value)}" for key, value in settings.items()]
        log = sweep.out / "logs" / f"{self.name.replace('/', '-')}.log"
        return Job(self.name, [sys.executable, "-m", "offramp", *words], log)


def trials(sweep: Sweep, factors: Sequence[Fraction]) -> list[Trial]:
    """The runs of a sweep: seed by seed, so that what is there after an interruption can be paired.

    Args:
        sweep: Methods and seeds.
        factors: Of the learning rate; 1 leaves it alone.

    Raises:
        UserError: Two runs would be the same, or there is no validation set to pick a factor on.
    """
    by_name: dict[str, Trial] = {}
    labels: dict[str, str] = {}
    for seed in sweep.seeds:
        for entry in sweep.entries:
            if len(factors) > 1 and entry.recipe.val_fraction == 0:
                raise UserError(
                    "the learning rate is picked on validation images, and there are none; "
                    "give val_fraction, e.g. val_fraction: 0.1"
                )
            for factor in factors:
                scaled = "" if factor == 1 else f"-lr-x{float(factor):.3g}"
                name = f"{_folder_name(entry.label)}/seed-{seed}{scaled}"
                lr = entry.recipe.lr if factor == 1 else entry.recipe.lr * float(factor)
                trial = Trial(name, sweep.out / name, entry, entry.recipe.replace(seed=seed, lr=lr))
                decisive = _decisive(trial, searching=len(factors) > 1) + (scaled or "x1")
                twin = labels.setdefault(decisive, entry.label)
                if twin != entry.label or name in by_name:
                    raise UserError(
                        f"methods: {shown(entry.label)} and {shown(twin)} are the same; leave one out"
                    )
                by_name[name] = trial
    return list(by_name.values())


def _folder_name(label: str) -> str:
    name = re.sub(r"[^\w.=+-]+", "-", label).strip("-")
    if len(name.encode()) <= 200:
        return name
    return f"{name[:40]}-{hashlib.sha256(label.encode()).hexdigest()[:12]}"  # of a list of classes, say


def _decisive(trial: Trial, *, searching: bool) -> str:
    """Key of all that tells a run from the others, but for the factor of its learning rate."""
    recipe = trial.recipe.to_dict() | {"options": trial.entry.method.options, "checkpoint_every": 0}
    entry = trial.entry
    rate = {"lr": None} if searching else {}
    return repr((entry.method.name, entry.net, entry.init, recipe | rate))


def check_trials(sweep: Sweep, runs: Sequence[Trial]) -> None:
    """Check that every run could start: net, data, each method on this net, and the folders' content.

    Raises:
        UserError: The first mistake that is found.
    """
    for text in dict.fromkeys(run.entry.net for run in runs):
        check(text)  # a mistake here shall not wait until the images are decoded
    for init in dict.fromkeys(run.entry.init for run in runs):
        if init is not None:
            weight_file(init)
    opened: dict[tuple[Any, ...], OpenedData[Any]] = {}
    checked = set()
    for run in runs:
        recipe = run.recipe
        key = tuple(repr(getattr(recipe, name)) for name in (*SETTINGS, "sets", "proportions"))
        if key not in opened:
            opened[key] = open_set(sweep.data, recipe)
        data = opened[key]
        is_new = run.entry.label not in checked
        if not is_new and not run.folder.exists():
            continue
        net = build(run.entry.net, input_size=data.input_size, targets=data.targets)
        if is_new:
            checked.add(run.entry.label)
            check_trained_backbone(run.entry.method, run.entry.net, run.entry.init)
            _check_comparable(run, runs[0], net)
            check_batch_size(recipe, data.train)
        without_options = dataclasses.replace(recipe, options={})  # the method has them
        with threads_given_back():
            set_up(net, data, run.entry.method, without_options, run.folder, resume=True, init=run.entry.init)
        if is_new:
            try:
                prepared = run.entry.method.prepare(net)
                BoundMethod(run.entry.method, prepared)
                run.entry.method.regime.periods(recipe.epochs, prepared)
            except UserError as error:
                raise UserError(f"methods: {run.entry.label}: {error}") from None


def _check_comparable(run: Trial, first: Trial, net: Net) -> None:
    """Check that a run can stand in one table with the first: nets with exits must be the same one."""
    if run.entry.net != first.entry.net and are_exits(net.outputs):
        raise UserError(
            f"methods: {run.entry.label}: {shown(run.entry.net)} has exits, and {shown(first.entry.net)} is "
            "another net; nets are compared where they have the same tasks: give it a sweep of its own"
        )
