"""The recorded logits of a net's exits, on which policies are fitted and judged without the net."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from offramp.checks import of_kind
from offramp.data.batch import Batch, Origin
from offramp.data.smaller_batches import SmallerBatches
from offramp.errors import UserError, an_object, shown
from offramp.exits._fingerprint import fingerprint
from offramp.exits._inputs import Inputs
from offramp.exits._with_exits import check_classifies
from offramp.modes import evaluating
from offramp.nets import MultiExitNet, Net
from offramp.tasks.classification import NO_LABEL
from offramp.tasks.task import wide

__all__ = ["ExitLogits", "target_of"]


@dataclass(frozen=True)
class ExitLogits:
    """What every exit of a net says about N labelled samples.

    Attributes:
        logits: ``[K, N, classes]`` on the CPU, in float32 or the net's wider dtype.
        labels: The right classes, int64 ``[N]``.
        origin: Which split of which set the samples are; None for a user's own.
        digest: Of inputs (padding included) and labels, 16 hexadecimal digits, the same in whatever order the
            samples came.
        net: Digest of the net's weights.

    Raises:
        UserError: No samples, logits that are no finite numbers, or labels that are no classes.
    """

    logits: Tensor
    labels: Tensor
    origin: Origin | None = None
    digest: str = ""
    net: str | None = None

    def __post_init__(self) -> None:
        for name in ("logits", "labels"):
            of_kind(name, getattr(self, name), Tensor, "a Tensor")
        if self.logits.ndim != 3 or self.labels.shape != self.logits.shape[1:2]:
            raise UserError(
                "recorded logits are [K, N, classes] with N labels, "
                f"got {[*self.logits.shape]} with {[*self.labels.shape]}"
            )
        if not len(self.labels):
            raise UserError("there is no sample with a label to calibrate on; give labelled samples")
        if self.classes < 2:
            raise UserError(
                "the net has one class, so that there is nothing to calibrate; take one that has two or more"
            )
        if ((self.labels < 0) | (self.labels >= self.classes)).any():
            odd = self.labels[(self.labels < 0) | (self.labels >= self.classes)][0]
            raise UserError(f"a label is {int(odd)}, the net's classes are 0 to {self.classes - 1}")
        if not self.logits.isfinite().all():
            exit, sample = (~self.logits.isfinite().all(-1)).nonzero()[0].tolist()
            raise UserError(
                f"the logits of sample {sample} at exit {exit + 1} are not finite; "
                "look for NaN or infinity in the inputs and the weights"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_exits(self) -> int:
        """How many exits there are (K)."""
        return len(self.logits)

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return self.logits.shape[-1]

    def take(self, rows: Tensor) -> ExitLogits:
        """Some of the samples.

        Args:
            rows: Their places, int64, or bool ``[N]``.
        """
        return replace(self, logits=self.logits[:, rows], labels=self.labels[rows])

    def for_net(self, net: MultiExitNet) -> ExitLogits:
        """Check that the logits are of a net, and note the digest of its weights.

        Raises:
            UserError: They are of another net, or of other weights.
        """
        if self.num_exits != net.num_exits:
            raise UserError(
                f"the logits are of {self.num_exits} exits, the net has {net.num_exits}; record this net's"
            )
        ours = fingerprint(net)
        if self.net not in (None, ours):
            raise UserError("the logits were recorded of other weights than the net has; record them again")
        return replace(self, net=ours)

    @classmethod
    @torch.no_grad()
    def of(cls, net: MultiExitNet, batches: Iterable[Any]) -> ExitLogits:
        """Run a net on samples, in evaluation mode; its modes are restored.

        Args:
            net: The net; all its exits classify.
            batches: Of a :class:`~offramp.data.Batch` each, or of (inputs, labels), or a mapping of named
                inputs with the labels among them. Samples of label -100 do not count.

        Raises:
            UserError: The net does something else, or a batch is none.
        """
        target = target_of(net)
        of_kind("batches", batches, Iterable, "batches, e.g. a DataLoader or a list of (inputs, labels)")
        device = next((p.device for p in net.parameters()), torch.device("cpu"))
        logits, labels, digest = [], [], _Digest()
        origin: Origin | None = None
        known, smaller = Inputs(net), SmallerBatches(device)

        def record(batch: Batch) -> Tensor:
            inputs = batch.to(device).inputs
            if isinstance(inputs, Tensor):  # of other forms the net itself says what it reads
                known.read(inputs)
            return torch.stack([wide(each).cpu() for each in net(inputs)])

        with evaluating(net):
            for item in batches:
                batch = _labelled(_batch(item, target), target)
                if batch.origin and not (origin and origin.is_test):
                    origin = batch.origin
                if not len(batch):
                    continue
                digest.add(batch, target)
                logits += smaller(batch, record)
                labels.append(batch.targets[target].cpu())
        if not labels:
            raise UserError("there is no sample with a label to calibrate on; give labelled samples")
        return cls(torch.cat(logits, 1), torch.cat(labels), origin, digest.text, fingerprint(net))


def target_of(net: Net) -> str:
    """The key of the labels that a net's exits predict.

    Raises:
        UserError: The net has no exits in a row, or they do something else than classify.
    """
    check_classifies(net)
    targets = {task.target for task in net.outputs.values()}
    if len(targets) > 1:
        raise UserError(
            f"the exits look for {' and '.join(sorted(targets))}; all must predict the same target"
        )
    return targets.pop()


def _batch(item: Any, target: str) -> Batch:
    """A batch of what a loader gives."""
    if isinstance(item, Batch):
        return item
    if isinstance(item, Mapping):
        key = next((key for key in (target, "label", "labels") if key in item), None)
        if key is not None:
            return Batch({name: x for name, x in item.items() if name != key}, {target: item[key]})
    if isinstance(item, (tuple, list)) and len(item) == 2 and isinstance(item[1], Tensor):
        return Batch(item[0], {target: item[1]})
    raise UserError(
        f"a batch to calibrate on is a pair (inputs, {target}), a Batch, or a dict with {shown(target)}; "
        f"got {an_object(item)}"
    )


def _labelled(batch: Batch, target: str) -> Batch:
    """The samples of a batch that have a label, as a class index."""
    labels = batch.targets.get(target)
    if labels is None:
        return batch.first(0)
    if labels.is_floating_point() and labels.ndim == 2:
        labels = labels.argmax(-1)
    if labels.ndim != 1 or labels.is_floating_point() or len(labels) != len(batch):
        raise UserError(
            f"the labels of a batch of {len(batch)} samples are {labels.dtype} {[*labels.shape]}; "
            f"give one class index for each, int64 [{len(batch)}]"
        )
    batch = replace(batch, targets={target: labels.long()})
    has = labels != NO_LABEL
    return batch if has.all() else batch.map(lambda tensor: tensor[has.to(tensor.device)])


class _Digest:
    """The sum of the digests of samples, which does not depend on their order."""

    def __init__(self) -> None:
        self._sum = 0

    def add(self, batch: Batch, target: str) -> None:
        inputs = [batch.inputs] if isinstance(batch.inputs, Tensor) else [*batch.inputs.values()]
        columns = [each.detach().cpu().contiguous() for each in (*inputs, batch.targets[target])]
        arrays = [
            (each.view(torch.uint8) if each.dtype == torch.bfloat16 else each).numpy() for each in columns
        ]
        for sample in zip(*arrays, strict=True):
            digest = hashlib.blake2b(digest_size=8)
            for part in sample:
                digest.update(part.tobytes())
            self._sum += int.from_bytes(digest.digest(), "big")

    @property
    def text(self) -> str:
        return f"{self._sum % 2**64:016x}"
