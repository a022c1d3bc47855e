"""Data sets that are Python objects: the rows of each kind of object."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch.utils import data as torch_data

from offramp.data._arrays import ArrayRows
from offramp.data._column_types import not_images
from offramp.data._columns import Columns
from offramp.data._dense_table import is_dense
from offramp.data._held import held_class_names, held_labels, other_classes_note
from offramp.data._hub import HubTable
from offramp.data._once import iter_samples, read_once
from offramp.data._rows import Rows
from offramp.data._samples import SampleRows
from offramp.data._table import TableRows
from offramp.data.asked import Asked
from offramp.data.class_names import class_names
from offramp.data.targets import LABEL
from offramp.errors import UserError, shown

__all__ = ["KINDS", "object_name", "open_rows"]

KINDS = (
    "a folder or a name, a torch Dataset or DataLoader, a Hugging Face Dataset or DatasetDict, a list of "
    "(image, label) or (text, label) pairs, a tuple (images, labels) of arrays, or a mapping "
    "{'train': ..., 'val': ..., 'test': ...} of these"
)


def object_name(data: object) -> str:
    """The name of an object in tables and errors."""
    if isinstance(data, torch_data.DataLoader):
        return object_name(data.dataset)
    if isinstance(data, torch_data.Subset):
        return f"part of {object_name(data.dataset)}"
    return type(data).__name__


def open_rows(data: Any, name: str, columns: Columns) -> tuple[Rows, list[str]]:
    """The rows of one split, and notes on them for the user, line by line.

    Args:
        data: Any object but a mapping of splits.
        name: Its name in errors.
        columns: Which columns or keys hold the images and the labels.

    Raises:
        UserError: It is none of the kinds that are known.
    """
    if isinstance(data, torch_data.DataLoader):
        return _loader_rows(data, name, columns)
    if isinstance(data, (tuple, list)) and len(data) and all(map(_is_data_set, data)):
        raise UserError(
            f"{name} is a {type(data).__name__} of data sets; say which split each is, {{'train': ..., "
            "'val': ..., 'test': ...}, or join them by torch's ConcatDataset"
        )
    if isinstance(data, torch_data.TensorDataset) and len(data.tensors) == 2:
        return _array_rows(data.tensors, name, columns), []
    if _is_hugging_face(data):
        return _hugging_face_rows(data, name, columns)
    if _is_pair_of_columns(data):
        return _array_rows(data, name, columns), []
    is_text = isinstance(data, (str, bytes, Mapping))
    iterable_only = isinstance(data, torch_data.IterableDataset)
    if hasattr(data, "__len__") and hasattr(data, "__getitem__") and not is_text and not iterable_only:
        rows, notes = _with_notes(
            SampleRows(data, name, columns, held_labels(data), held_class_names(data)), name
        )
        return rows, [*other_classes_note(data, name), *notes]
    if isinstance(data, Iterable) and not is_text:
        return read_once(data, f"{name} can only be read from its beginning", name, columns)
    raise UserError(f"{name} is no data set; give {KINDS}")


def _is_hugging_face(data: Any) -> bool:
    return hasattr(data, "features") and hasattr(data, "with_format") and hasattr(data, "__len__")


def _is_data_set(data: Any) -> bool:
    """Whether data are one for certain, and no sample or column: also (images, labels) as two arrays."""
    if isinstance(data, (torch_data.Dataset, torch_data.DataLoader)) or _is_hugging_face(data):
        return True
    arrays = isinstance(data, tuple) and all(len(getattr(part, "shape", ())) for part in data)
    return arrays and len(data) == 2 and len(data[0]) == len(data[1]) and data[0].ndim > 3


def _array_rows(data: Sequence[Any], name: str, columns: Columns) -> ArrayRows:
    """The rows of (images, labels), or of (images, {name: targets})."""
    images, targets = data
    if not isinstance(targets, Mapping):
        columns.refuse(name)
        return ArrayRows(images, {LABEL: targets}, name, asked=columns.asked)
    if not targets or not all(isinstance(key, str) for key in targets):
        raise UserError(f"{name}: targets {shown([*targets])}; give them by names, {{name: targets}}")
    columns.check_targets(name, [*targets])
    asked = columns.asked or {key: Asked(key) for key in targets}
    return ArrayRows(images, targets, name, asked=asked)


def _with_notes(rows: SampleRows, name: str) -> tuple[Rows, list[str]]:
    notes = []
    if rows.random:
        seeds = (
            ""
            if rows.reproducible
            else ", and not by the global seeds: a stopped run is not resumed bit for bit"
        )
        notes.append(
            f"{name} draws random numbers of its own, for validation too{seeds}; "
            "augmentation comes after them, and `augment='none'` leaves it out"
        )
    if rows.read_for_labels and len(rows) > 1000:
        notes.append(f"{name} has no `targets`, so that all {len(rows):,} samples are read for their labels")
    return rows, notes


def _loader_rows(loader: torch_data.DataLoader[Any], name: str, columns: Columns) -> tuple[Rows, list[str]]:
    dataset, sampler = loader.dataset, loader.sampler
    if isinstance(sampler, torch_data.DistributedSampler):
        raise UserError(
            f"the DataLoader of {name} gives each process a share, which is done here as well; "
            "give it without its DistributedSampler"
        )
    if isinstance(dataset, torch_data.IterableDataset):
        return read_once(iter_samples(loader), f"{name} can only be read from its beginning", name, columns)
    covers_all = (
        type(sampler) in (torch_data.SequentialSampler, torch_data.RandomSampler)
        and not getattr(sampler, "replacement", False)
        and len(sampler) == len(dataset)  # type: ignore[arg-type]
    )
    if covers_all and type(loader.batch_sampler) in (torch_data.BatchSampler, type(None)):
        if loader.collate_fn in (torch_data.default_collate, torch_data.default_convert):
            rows, notes = open_rows(dataset, name, columns)
            return rows, [f"{name} is read in the recipe's batches and order, not its DataLoader's", *notes]
        custom = "collate_fn"
    else:
        custom = type(sampler if not covers_all else loader.batch_sampler).__name__
    reason = f"the DataLoader of {name} has a {custom} of its own"
    rows, notes = read_once(iter_samples(loader), reason, name, columns)
    if getattr(sampler, "replacement", False) or len(rows) > len(dataset):  # type: ignore[arg-type]
        notes.append(
            f"{custom} draws the same sample of {name} more than once: validation samples that are held out "
            "of them may be training samples too; give {'train': ..., 'val': ...}"
        )
    return rows, notes


def _hugging_face_rows(data: Any, name: str, columns: Columns) -> tuple[Rows, list[str]]:
    """The rows of a Hugging Face data set, read from its table, or through its format if it has one."""
    if not len(data):
        raise UserError(f"{name} has no samples; give some")
    features = data.features
    if is_dense(HubTable(name, data)):
        raise UserError(
            f"{name}: maps of every pixel are read from files; write the splits by `to_parquet`, as "
            "train.parquet and test.parquet, and give the folder, or the name that the set has on the hub"
        )
    if columns.kind == "text" and data.format["type"] is None:
        return TableRows(HubTable(name, data), columns), []
    content, label = columns.pick(name, list(features))
    table = HubTable(name, data)
    if data.format["type"] is None:
        if not_images(table.schema.field(content).type) is None:
            return TableRows(table, columns), []
        data = data.with_format("numpy")
    names = None if label is None else getattr(features[label], "names", None)
    labels = data.with_format(None)[label][:] if label in data.column_names else None
    return _with_notes(
        SampleRows(
            data, name, columns, labels, class_names(names, f"{name}, {shown(label)}") if names else None
        ),
        name,
    )


def _is_pair_of_columns(data: Any) -> bool:
    """Whether data are (images, labels), and not a pair of samples."""
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        return False
    if isinstance(data[1], Mapping):  # arrays by name; or the second of two samples
        return isinstance(data, tuple) and hasattr(data[0], "__len__") and not isinstance(data[0], Mapping)
    arrays = all(hasattr(part, "shape") and len(part.shape) for part in data)
    return arrays or (
        isinstance(data, tuple)
        and all(hasattr(part, "__len__") for part in data)
        and not isinstance(data[0], tuple)
    )
