"""Labels and class names that a data set of torch or torchvision holds: no sample is read for them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from itertools import chain, zip_longest
from typing import Any

from torch.utils import data as torch_data

from offramp.data._arrays import as_list
from offramp.data.class_names import class_names
from offramp.errors import shown

__all__ = ["held_class_names", "held_labels", "other_classes_note"]


def held_labels(data: Any) -> Sequence[Any] | None:
    """All labels of a data set, one for each sample, if they or those of its parts are in memory."""
    with contextlib.suppress(Exception):  # of a property of the user's, or of a Tensor without values
        labels = _labels(data)
        if labels is not None and len(labels) == len(data):
            return labels
    return None


def _labels(data: Any) -> Sequence[Any] | None:
    if isinstance(data, torch_data.Subset):
        labels = held_labels(data.dataset)
        return None if labels is None else [labels[i] for i in data.indices]
    if isinstance(data, torch_data.ConcatDataset):
        parts = [held_labels(part) for part in data.datasets]
        return None if any(part is None for part in parts) else [*chain(*parts)]  # type: ignore[arg-type]
    if isinstance(data, torch_data.TensorDataset) and len(data.tensors) == 2:
        return _one_each(data.tensors[1])
    for name in ("targets", "labels"):
        if (labels := _one_each(getattr(data, name, None))) is not None:
            return labels
    if isinstance(data, list) and all(isinstance(each, (tuple, list)) and len(each) == 2 for each in data):
        return [label for _, label in data]
    return None


def _one_each(labels: Any) -> Sequence[Any] | None:
    """An attribute as a list of labels, if it can hold one for each sample."""
    listed = hasattr(labels, "__len__") and hasattr(labels, "__getitem__")
    if not listed or isinstance(labels, (str, Mapping)):
        return None
    shape: tuple[int, ...] = getattr(labels, "shape", (0,))
    return as_list(labels) if len(shape) == 1 or (len(shape) == 2 and shape[1] == 1) else None


def held_class_names(data: Any) -> tuple[str, ...] | None:
    """The names of a data set's classes, if it has some, and its parts agree on them."""
    if isinstance(data, torch_data.Subset):
        return held_class_names(data.dataset)
    if isinstance(data, torch_data.ConcatDataset):
        named = {held_class_names(part) for part in data.datasets}
        return named.pop() if len(named) == 1 else None
    names = None
    with contextlib.suppress(Exception):  # of a property of the user's
        names = getattr(data, "classes", None)
    if not isinstance(names, (list, tuple)) or not names:
        return None
    words = [str(name) if isinstance(name, tuple) else name for name in names]  # ImageNet's are synonyms
    return class_names(words, type(data).__name__)


def other_classes_note(data: Any, name: str) -> list[str]:
    """A note on joined data sets of which two number other classes."""
    if isinstance(data, torch_data.Subset):
        return other_classes_note(data.dataset, name)
    if not isinstance(data, torch_data.ConcatDataset):
        return []
    named = [names for names in dict.fromkeys(map(held_class_names, data.datasets)) if names is not None]
    for number, words in enumerate(zip_longest(*named[:2])):
        if len({*words}) > 1:
            one, other = ("nothing" if word is None else shown(word, 60) for word in words)
            return [
                f"{name} joins data sets that number other classes: {number} is {one} in one of them and "
                f"{other} in another; it is taken for one class"
            ]
    return []
