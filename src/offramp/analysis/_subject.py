"""A finished run, opened for its diagnosis: the net, its training batches, its metrics."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offramp.analysis.settings import SplitName
from offramp.errors import UserError
from offramp.forks import ForkedNet, remove
from offramp.methods import Method
from offramp.nets import Net
from offramp.recipes.recipe import Recipe
from offramp.reports import RunRecord
from offramp.runs.evaluation import Evaluation
from offramp.runs.run import Run
from offramp.runs.sets import SETTINGS, recorded_transform, transforms
from offramp.runs.several import as_recipe_says

if TYPE_CHECKING:
    from offramp.data import Batch, OpenedData

__all__ = ["Subject", "check_split", "subject_of"]


@dataclass(frozen=True)
class Subject:
    """A finished run, its trained net and its data, opened for a diagnosis.

    Attributes:
        label: The method, with what sets the run apart from the others.
        method: The label without the seed.
        trained_by: The method by which it was trained.
        folder: The run folder.
        net: The trained net; its forks are plain, unless the method's forks change values.
        record: The content of ``run.json``.
        data: The data set, cut as it was for the training.
        last_lr: The learning rate of the last epoch.
    """

    label: str
    method: str
    trained_by: Method
    folder: Path
    net: Net
    record: Mapping[str, Any]
    data: OpenedData[Any]
    last_lr: float

    @property
    def recipe(self) -> Recipe:
        """The recipe by which the run was trained."""
        return Recipe.from_dict(self.record["recipe"])

    @property
    def routes_file(self) -> Path:
        """Path of the routes that DR-MGF has learned; runs of other methods have no such file."""
        return self.folder / "routes.safetensors"

    @property
    def gradients_differ(self) -> bool:
        """Whether the method trains by other gradients than the plain net's, because its forks scale them."""
        return bool(self.trained_by.forks) and not self.trained_by.lasting

    @contextmanager
    def as_trained(self) -> Iterator[None]:
        """Put the method's forks on the net for the time of the ``with`` block."""
        assert isinstance(self.net, ForkedNet)
        self.trained_by.prepare(self.net)
        try:
            yield
        finally:
            remove(self.net)

    def batches(self, count: int) -> Iterator[Batch]:
        """Training batches, shuffled and augmented as in the training, over as many epochs as it takes.

        Only those in which every output has a target; of several data sets, with samples of each at once.

        Raises:
            UserError: No batch of an epoch is such a one.
        """
        from offramp.data import JointData

        recipe = self.recipe
        together = recipe.replace(streams="together")
        data = as_recipe_says(self.data, together) if isinstance(self.data, JointData) else self.data
        transform, _ = transforms(recipe, data)
        wanted = {task.target for task in self.net.outputs.values()}
        given = 0
        for epoch in itertools.count():
            for batch in data.train.batches(
                min(recipe.batch_size, len(data.train)), transform=transform,
                device=next(self.net.parameters()).device, seed=recipe.seed, epoch=epoch, shuffle=True,
                drop_last=True,
            ):  # fmt: skip
                if wanted <= batch.targets.keys():
                    yield batch
                    given += 1
                    if given == count:
                        return
            if not given:
                raise UserError(
                    f"no training batch of {self.label} has targets for all outputs; give batches of more "
                    "samples, or targets to more of them"
                )

    def metrics(self, split: SplitName) -> list[float]:
        """The primary metric of every output, of the net as it is now."""
        images = self.data.val if split == "val" else self.data.test
        tasks = dict(self.net.outputs)
        measure = Evaluation(self.net, tasks, recorded_transform(dict(self.record)), self.recipe.batch_size)
        metrics = measure(images).outputs
        return [metrics[name][task.primary] for name, task in tasks.items()]


def subject_of(
    run: Run, files: RunRecord, label: str, method: str, sets: dict[tuple[Any, ...], OpenedData[Any]]
) -> Subject:
    """A run with its data, opened if they are not yet.

    Args:
        run: The run.
        files: The records and logs in its folder.
        label: Its name in tables.
        method: Name in tables of all the runs that differ from it in their seed only.
        sets: Data sets that are open already; this one is added.

    Raises:
        UserError: The data cannot be opened.
    """
    recipe = run.recipe
    stored = run.record["data"]
    told = stored.get("targets", stored.get("classes"))
    identity = (stored["source"], stored.get("digest"), tuple(stored["input_size"]), repr(told))
    key = (*identity, *(repr(getattr(recipe, name)) for name in (*SETTINGS, "sets")))
    if key not in sets:
        sets[key] = run.open_data()
    last = files.epochs[-1] if files.epochs else {}
    return Subject(
        label=label, method=method, trained_by=run.method, folder=files.folder, net=run.net,
        record=run.record, data=sets[key], last_lr=last.get("lr", recipe.lr),
    )  # fmt: skip


def check_split(subject: Subject, split: SplitName) -> None:
    """Check that there are images to measure the outputs on.

    Raises:
        UserError: The run held out no validation images.
    """
    if split == "val" and not len(subject.data.val):
        raise UserError(
            f"{subject.folder} held out no validation images (val_fraction=0); give `split='test'`, or leave "
            "out what measures the outputs: `what=['conflict', 'filters', 'convergence']`"
        )
