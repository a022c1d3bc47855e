"""The logits to calibrate on, of whatever a user gives as data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from offramp.data import Batch, OpenedData, TextSplit, Transform
from offramp.data.batch import Origin
from offramp.data.batches import Batches, BatchTransform
from offramp.errors import UserError, an_object
from offramp.exits.exit_logits import ExitLogits
from offramp.nets import MultiExitNet
from offramp.runs import Run
from offramp.runs.sets import recorded_transform
from offramp.say import say

__all__ = ["provenance", "record"]

BATCH_SIZE = 256  # of a split, or of Tensors given whole


def record(
    net: MultiExitNet, data: Any, *, run: Run | None = None, transform: BatchTransform | None = None
) -> ExitLogits:
    """Record the logits of a net on held-out samples.

    Args:
        net: The net.
        data: See :func:`offramp.calibrate`; None: the run's validation split.
        run: The run that trained it, if there is one.
        transform: Normalises the images of a split; None: as the run's were.

    Raises:
        UserError: No data, test data, or such that cannot be read.
    """
    if run is not None:
        data = run.batches("val") if data is None else data
        transform = transform or recorded_transform(run.record)
    if isinstance(data, ExitLogits):
        recorded = data
    else:
        recorded = ExitLogits.of(net, _fitting(_batches(net, data, transform)))
    _check_held_out(recorded)
    return recorded.for_net(net)


def provenance(recorded: ExitLogits) -> dict[str, Any]:
    """What a policy remembers of the samples that it was fitted on."""
    origin = recorded.origin
    named = {} if origin is None else {"data": origin.data, "split": origin.split}
    return {**named, "digest": recorded.digest, "samples": len(recorded)}


def _batches(net: MultiExitNet, data: Any, transform: BatchTransform | None) -> Iterable[Any]:
    if data is None:
        raise UserError(
            "there are no data to calibrate on; give held-out batches: calibrate(net, batches, ...)"
        )
    if isinstance(data, OpenedData):
        raise UserError(
            f"{data.name} is a whole set, the test data among them; give its validation split: data.val"
        )
    if isinstance(data, Batches):
        if isinstance(data, TextSplit):
            transform = transform or Transform((), ())  # texts are read as they are
        if transform is None:
            raise UserError(
                "the images of a split are not normalised; give the run that trained the net in its place, "
                "or the normalisation of its training by `transform=...`"
            )
        device = next(net.parameters()).device
        return data.batches(BATCH_SIZE, transform=transform, device=device)
    if isinstance(data, tuple) and len(data) == 2 and isinstance(data[0], (Tensor, Mapping)):
        inputs, labels = data
        if isinstance(labels, Tensor) and labels.ndim == 1:
            whole = Batch(inputs, {"label": labels})
            return (
                (part.inputs, part.targets["label"]) for part in whole.split(-(-len(labels) // BATCH_SIZE))
            )
    if isinstance(data, Dataset) or not isinstance(data, Iterable) or isinstance(data, (str, bytes)):
        raise UserError(
            f"data is {an_object(data)}, must be batches of labelled samples; "
            "give a DataLoader, a list of (inputs, labels), or one such pair"
        )
    return data


def _fitting(batches: Iterable[Any]) -> Iterator[Any]:
    """The batches, unless they are of test data, which are refused before the net has run on all of them."""
    for batch in batches:
        if isinstance(batch, Batch) and batch.origin and batch.origin.is_test:
            _refuse(batch.origin)
        yield batch


def _check_held_out(recorded: ExitLogits) -> None:
    origin = recorded.origin
    if origin is None:
        return
    if origin.is_test:
        _refuse(origin)
    if origin.split == "train":
        say(
            f"the samples are the training split of {origin.data}; a net that has learned them is surer "
            "there than on new samples, of which more go on"
        )


def _refuse(origin: Origin) -> None:
    raise UserError(
        f"the {origin.split} samples of {origin.data} are its test data, on which no policy is fitted; "
        "give held-out samples that results are not taken on, e.g. data.val of a set with a test split"
    )
