"""Several data sets with targets for different tasks, opened as one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from offramp.checks import of_kind
from offramp.data._sources import SPLITS
from offramp.data.class_names import check_name
from offramp.data.joint_split import JointSplit
from offramp.data.opened import OpenedData
from offramp.data.streams import Streams
from offramp.errors import UserError, an_object, shown

__all__ = ["JointData", "several_sets"]


class JointData(OpenedData[JointSplit]):
    """Several opened data sets, of other samples, sizes and lengths, each with targets for its own tasks.

    A set with one target has it under the set's name here, whatever its own key. A set that is named after
    one of its targets has that one alone. Any other set has all of its targets, by their own keys.

    Args:
        sets: Name of a set -> the set.
        streams: How training batches are drawn from them.

    Attributes:
        sets: Those that were given.
        keys: Name of a set -> key of its own for a target -> key of the target here.

    Raises:
        UserError: They are no opened sets, two of them have a target of one name, or one is itself several.
    """

    def __init__(self, sets: Mapping[str, OpenedData[Any]], streams: Streams | None = None) -> None:
        _check_sets(sets)
        of_kind("streams", streams, Streams | None, "offramp.data.Streams(...)")
        self.sets, self.streams = dict(sets), streams or Streams()
        self.keys = _keys(self.sets)
        digests = {name: data.digest for name, data in sets.items() if data.digest is not None}
        super().__init__(
            name=" ".join(f"{name}={data.name}" for name, data in sets.items()),
            source=" ".join(f"{name}={data.source}" for name, data in sets.items()),
            targets={
                here: sets[name].targets[own]
                for name, keys in self.keys.items()
                for own, here in keys.items()
            },
            train=self._split(lambda data: data.train),
            val=self._split(lambda data: data.val),
            load_test=lambda: self._split(lambda data: data.test),
            notes=[f"{name}: {note}" for name, data in sets.items() for note in data.notes],
            digest=" ".join(f"{name}={digest}" for name, digest in digests.items()) or None,
        )

    def _split(self, choose: Callable[[OpenedData[Any]], Any]) -> JointSplit:
        parts = {name: choose(data) for name, data in self.sets.items()}
        return JointSplit(parts, self.keys, self.streams)

    @property
    def input_size(self) -> tuple[int, ...]:
        """Shape of one input of the first set, without the batch axis."""
        return next(iter(self.sets.values())).input_size

    def renamed(self, name: str) -> OpenedData[Any]:
        """One of the sets, its targets by the keys that they have here."""
        data = copy.copy(self.sets[name])
        data.targets = {here: data.targets[own] for own, here in self.keys[name].items()}
        return data

    def drawn(self, streams: Streams) -> JointData:
        """A copy whose training batches are drawn in another way."""
        return JointData(self.sets, streams)

    def each(self, change: Callable[[OpenedData[Any]], OpenedData[Any]]) -> JointData:
        """A copy with a function applied to every set."""
        return JointData({name: change(data) for name, data in self.sets.items()}, self.streams)


def several_sets(source: Any) -> bool:
    """Whether a source is a mapping from names to data sets, rather than one from splits.

    Raises:
        UserError: Some of its keys are names of splits and others are not, or are no text.
    """
    if not isinstance(source, Mapping) or hasattr(source, "column_names"):  # a DatasetDict has splits
        return False
    splits = [str(key) for key in source if str(key).lower() in SPLITS]
    others = [str(key) for key in source if str(key).lower() not in SPLITS]
    if splits and others:
        raise UserError(
            f"of the keys {', '.join(map(str, source))} some are splits ({', '.join(splits)}) and some are "
            f"not ({', '.join(others)}); give splits of one data set, or data sets by names of their own, "
            "each with its splits inside"
        )
    if len(others) > 1 and not all(isinstance(key, str) for key in source):
        raise UserError(f"data sets are called {', '.join(map(repr, source))}; give them names that are text")
    return len(others) > 1


def _check_sets(sets: object) -> None:
    if not isinstance(sets, Mapping) or not sets:
        raise UserError(f"sets are {shown(sets)}, must be a mapping from names to opened data sets")
    for name, data in sets.items():
        if not isinstance(name, str) or not isinstance(data, OpenedData):
            raise UserError(
                f"sets have {shown(name)}: {an_object(data)}, must be a name and a set that open_data opened"
            )
        check_name(name, "a data set")


def _keys(sets: Mapping[str, OpenedData[Any]]) -> dict[str, dict[str, str]]:
    keys: dict[str, dict[str, str]] = {}
    owner: dict[str, str] = {}
    for name, data in sets.items():
        if isinstance(data, JointData):
            raise UserError(
                f"the data set {shown(name)} is several sets itself; give all of them in one mapping"
            )
        own = [name] if name in data.targets else [*data.targets]
        keys[name] = {own[0]: name} if len(own) == 1 else {key: key for key in own}
        for key in keys[name].values():
            if key in owner:
                raise UserError(
                    f"the data sets {shown(owner[key])} and {shown(name)} both have targets for "
                    f"{shown(key)}; call each set by the one target that it is for, or leave columns out by "
                    "`tasks`"
                )
            owner[key] = name
    return keys
