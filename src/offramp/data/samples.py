"""A data set of somebody else's code: samples (image, label), each read by its number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from offramp.data.arrays import as_list
from offramp.data.columns import Columns
from offramp.data.draws import drawing, states
from offramp.data.labels import Labels, plain
from offramp.errors import UserError

__all__ = ["SampleRows", "spaced"]

PROBES = 8  # samples that are read at the start to see what the data set is like


class SampleRows:
    """A map-style data set: a torch ``Dataset``, a formatted Hugging Face one, a list of pairs.

    Whatever it draws from the global random numbers follows from the seed that is set before each reading.

    Args:
        samples: Has ``len()`` and gives (image, label), or a mapping with such keys, for a number.
        name: What errors call it.
        columns: Which keys hold the image and the label.
        labels: All labels, if they are at hand; what the samples themselves say counts.
        class_names: What the classes 0, 1, ... are called, if they have names.

    Attributes:
        random: Whether images are others each time that they are read.
        exact: Whether they are the same again after the same seed.
        asked: Whether the labels had to be asked of every single sample.

    Raises:
        UserError: There are no samples, or they are no such pairs.
    """

    def __init__(
        self,
        samples: Any,
        name: str,
        columns: Columns,
        labels: Any = None,
        class_names: tuple[str, ...] | None = None,
    ) -> None:
        self.class_names = class_names
        self._samples, self._name, self._columns = samples, name, columns
        self._keys: tuple[Any, Any] = (0, 1)
        if not len(samples):
            raise UserError(f"{name} has no samples; give some")
        first = self._sample(0)
        if isinstance(first, Mapping):
            self._keys = columns.pick(name, list(first))
        else:
            columns.refuse(name)
            if not isinstance(first, (tuple, list)) or len(first) != 2:
                parts = f" of {len(first)}" if isinstance(first, (tuple, list)) else ""
                raise UserError(
                    f"{self.where(0)}: a {type(first).__name__}{parts}; make it a pair (image, label)"
                )
        self.random, self.exact = False, True
        self._labels = None if labels is None or len(labels) != len(samples) else as_list(labels)
        for row in spaced(len(samples), PROBES):
            self._probe(row)
        self.asked = self._labels is None

    def __len__(self) -> int:
        return len(self._samples)

    def labels(self) -> Labels:
        """The labels; if they are not at hand, every sample is read for them."""
        if self._labels is None:
            self._labels = [self._pair(row)[1] for row in range(len(self))]
        return Labels.of(self._labels, self.where)

    def stored(self, row: int) -> Any:
        """One image.

        Raises:
            UserError: The data set fails to give it.
        """
        return self._pair(row)[0]

    def where(self, row: int) -> str:
        """The number of the sample, from 0, for an error."""
        return f"{self._name}, sample {row}"

    def _probe(self, row: int) -> None:
        with drawing(row):
            before = states()
            image, label = self._pair(row)
            self.random |= states() != before
        with drawing(row):
            again, _ = self._pair(row)
        if not _equal(image, again):
            self.random, self.exact = True, False
        if self._labels is not None and not _equal(plain(self._labels[row]), plain(label)):
            self._labels = None  # an attribute of that name that is something else

    def _sample(self, row: int) -> Any:
        try:
            return self._samples[row]
        except UserError:
            raise
        except Exception as error:  # it is the user's code
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise UserError(
                f"{self.where(row)}: the data set does not give it ({reason}); mend or remove it"
            ) from error

    def _pair(self, row: int) -> tuple[Any, Any]:
        sample, (image, label) = self._sample(row), self._keys
        try:
            return sample[image], sample[label]
        except (KeyError, IndexError, TypeError) as error:
            raise UserError(
                f"{self.where(row)}: no pair (image, label) as sample 0 is; mend or remove it"
            ) from error


def spaced(total: int, count: int) -> Sequence[int]:
    """At most so many numbers below a total, at even distances."""
    return sorted({total * i // count for i in range(count)})


def _equal(one: Any, other: Any) -> bool:
    return np.array_equal(np.asarray(one), np.asarray(other))
