"""A data set of the user's code: samples (image, label), each read by its number."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from offramp.data._arrays import as_list
from offramp.data._columns import Columns
from offramp.data._draws import generator_states, seeded
from offramp.data._labels import Labels, plain
from offramp.data._stored import StoredColumn
from offramp.data.asked import Asked
from offramp.data.decoding import check_header
from offramp.data.targets import LABEL
from offramp.errors import UserError, an_object, cut, error_text, shown
from offramp.say import say

__all__ = ["SampleRows", "evenly_spaced"]

PATIENCE = 5  # seconds of reading without a line
PROBES = 8  # samples that are read at the start to see what the data set is like


class SampleRows:
    """A map-style data set: a torch ``Dataset``, a formatted Hugging Face one, a list of pairs.

    A sample is (image, label), (image, {name: target}), or a mapping that holds all of them. Whatever the set
    draws from the global random numbers follows from the seed that is set before each reading.

    Args:
        samples: Has ``len()`` and gives such a sample for a number.
        name: Its name in errors.
        columns: Which keys hold the image and the targets.
        labels: All labels, if they are in memory; where they contradict the samples, the samples count.
        class_names: Names of the classes 0, 1, ..., if they have any.

    Attributes:
        random: Whether images differ each time that they are read.
        reproducible: Whether they are the same again after the same seed.
        read_for_labels: Whether every sample has to be read for its targets.

    Raises:
        UserError: There are no samples, they are no such samples, or their targets differ each time that they
            are read.
    """

    def __init__(
        self,
        samples: Any,
        name: str,
        columns: Columns,
        labels: Any = None,
        class_names: tuple[str, ...] | None = None,
    ) -> None:
        self.class_names, self.asked = class_names, columns.asked
        self._samples, self._name, self._columns = samples, name, columns
        self._content: Any = 0  # key of the image in a sample
        self._label: Any = 1
        if not self._length():
            raise UserError(f"{name} has no samples; give some")
        self._probes = evenly_spaced(len(samples), PROBES)
        self._look(self._sample(0))
        self.random, self.reproducible = False, True
        at_hand = self.asked is None and labels is not None and len(labels) == len(samples)
        self._labels = as_list(labels) if at_hand else None
        for row in self._probes:
            self._probe(row)
        self.read_for_labels = self._labels is None
        self._targets: list[Mapping[str, Any]] | None = None

    def _look(self, sample: Any) -> None:
        """Find out by the first sample what samples are."""
        columns, name = self._columns, self._name
        if isinstance(sample, Mapping):
            self._content, self._label = columns.pick(name, list(sample))
            return
        if not isinstance(sample, (tuple, list)) or len(sample) != 2:
            parts = f" of {len(sample)}" if isinstance(sample, (tuple, list)) else ""
            raise UserError(
                f"{self.location(0)}: {an_object(sample)}{parts}; "
                f"make it a pair ({columns.kind}, label), or ({columns.kind}, {{name: target, ...}})"
            )
        if not isinstance(sample[1], Mapping):
            columns.refuse(name)
            return
        self._label = None
        names = dict.fromkeys(str(key) for row in self._probes for key in self._targets_of(self._sample(row)))
        if self.asked is None:
            self.asked = {key: Asked(key) for key in names}
        else:
            columns.check_targets(name, [*names])

    def __len__(self) -> int:
        return len(self._samples)

    def labels(self) -> Labels:
        """The labels; if they are not in memory, every sample is read for them."""
        if self._labels is None:
            self._labels = [self._pair(row)[1] for row in self._all_rows()]
        return Labels.of(self._labels, self.location)

    def column(self, name: str) -> StoredColumn:
        """The values of a target, for which every sample is read once."""
        if self._targets is None:
            self._targets = [self._read_targets(row) for row in self._all_rows()]
        values = [targets.get(name) for targets in self._targets]
        return StoredColumn.of(name, values, self.location, self.class_names if name == LABEL else None)

    def _all_rows(self) -> Iterator[int]:
        """The number of each row, and a line to who waits, once the reading of all has taken a while."""
        start, said = time.monotonic(), False
        for row in range(len(self)):
            taken = time.monotonic() - start
            if not said and taken > PATIENCE:
                said = True
                needless = (
                    "" if self.asked else "; a list of all labels as its attribute `targets` saves that"
                )
                minutes = f"{max(1, round(taken * len(self) / row / 60)):,} min"
                say(
                    f"{self._name}: all {len(self):,} samples are read for targets, about {minutes}{needless}"
                )
            yield row

    def _read_targets(self, row: int) -> Mapping[str, Any]:
        with seeded(row):
            targets = self._targets_of(self._sample(row))
        new = [key for key in targets if key not in (self.asked or {})]
        if new and self._columns.asked is None:
            raise UserError(
                f"{self.location(row)} has {shown(new[0])}, which others lack; say which targets there are "
                "by `tasks=...`, and give None where one is not there"
            )
        return {name: targets.get(name) for name in (of.column for of in (self.asked or {}).values())}

    def _targets_of(self, sample: Any) -> Mapping[str, Any]:
        """The targets of a sample by name; that of a pair (image, label) is ``label``."""
        targets = sample if isinstance(sample, Mapping) else sample[1]
        return targets if isinstance(targets, Mapping) else {LABEL: targets}

    def content(self, row: int) -> Any:
        """The image of a row.

        Raises:
            UserError: The data set fails to give it.
        """
        return self._pair(row)[0]

    def names(self) -> None:
        """Nothing: samples in memory go by their order."""

    def location(self, row: int) -> str:
        """Name of a sample in an error: its number, from 0."""
        return f"{self._name}, sample {row}"

    def _probe(self, row: int) -> None:
        with seeded(row):
            states = generator_states()
            image, target = self._pair(row)
            self.random |= generator_states() != states
        with seeded(row):
            image_again, _ = self._pair(row)
        if not self._same(row, image, image_again):
            self.random, self.reproducible = True, False
        if self.asked is not None and self.random:
            with seeded(row, 1):
                other = self._pair(row)[1]
            if {*map(repr, other.items())} != {*map(repr, target.items())}:
                raise UserError(
                    f"{self.location(row)}: its targets differ each time that they are read; leave out what "
                    "draws them at random, and have images and targets moved by `augment=...`"
                )
        if self._labels is not None and not _equal_labels(self._labels[row], target):
            self._labels = None  # an attribute of that name that is something else

    def _same(self, row: int, image: Any, again: Any) -> bool:
        """Whether an image is the same when it is read again."""
        try:
            for each in (image, again):
                if hasattr(each, "getbands"):
                    check_header(each)  # of a file that may not be decoded yet
            return _equal(image, again)
        except Exception as error:  # of the codecs, or of an array of other things
            raise UserError(
                f"{self.location(row)}: cannot read the {self._columns.kind} ({error_text(error)}); mend or "
                "remove it"
            ) from error

    def _length(self) -> int:
        try:
            return len(self._samples)
        except Exception as error:  # it is the user's code
            raise UserError(
                f"{self._name} does not say how many samples it has ({error_text(error)})"
            ) from error

    def _sample(self, row: int) -> Any:
        try:
            return self._samples[row]
        except UserError:
            raise
        except Exception as error:  # it is the user's code
            reason = cut(" ".join(f"{type(error).__name__}: {error}".split()), 200)
            raise UserError(
                f"{self.location(row)}: the data set does not give it ({reason}); mend or remove it"
            ) from error

    def _pair(self, row: int) -> tuple[Any, Any]:
        """The image and the label of a row, or its image and all targets, if these are several."""
        sample = self._sample(row)
        try:
            if self.asked is None:
                return sample[self._content], sample[self._label]
            return sample[self._content], self._targets_of(sample)
        except (KeyError, IndexError, TypeError) as error:
            what = "label" if self.asked is None else "{name: target}"
            raise UserError(
                f"{self.location(row)}: no pair ({self._columns.kind}, {what}) as sample 0 is; "
                "mend or remove it"
            ) from error


def evenly_spaced(total: int, count: int) -> Sequence[int]:
    """At most `count` whole numbers below a total, at even distances."""
    return sorted({total * i // count for i in range(count)})


def _equal(a: Any, b: Any) -> bool:
    return np.array_equal(np.asarray(a), np.asarray(b))


def _equal_labels(a: Any, b: Any) -> bool:
    try:
        return _equal(plain(a), plain(b))
    except (TypeError, ValueError):  # lists of other lengths, or what has no value: they are no classes
        return False
