"""A data set of the user's code: samples (image, label), each read by its number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from offramp.data._arrays import as_list
from offramp.data._columns import Columns
from offramp.data._draws import generator_states, seeded
from offramp.data._labels import Labels, plain
from offramp.errors import UserError

__all__ = ["SampleRows", "evenly_spaced"]

PROBES = 8  # samples that are read at the start to see what the data set is like


class SampleRows:
    """A map-style data set: a torch ``Dataset``, a formatted Hugging Face one, a list of pairs.

    Whatever it draws from the global random numbers follows from the seed that is set before each reading.

    Args:
        samples: Has ``len()`` and gives (image, label), or a mapping with such keys, for a number.
        name: Its name in errors.
        columns: Which keys hold the image and the label.
        labels: All labels, if they are at hand; where they contradict the samples, the samples count.
        class_names: Names of the classes 0, 1, ..., if they have any.

    Attributes:
        random: Whether images differ each time that they are read.
        reproducible: Whether they are the same again after the same seed.
        read_for_labels: Whether every sample has to be read for its label.

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
        sample = self._sample(0)
        if isinstance(sample, Mapping):
            self._keys = columns.pick(name, list(sample))
        else:
            columns.refuse(name)
            if not isinstance(sample, (tuple, list)) or len(sample) != 2:
                parts = f" of {len(sample)}" if isinstance(sample, (tuple, list)) else ""
                raise UserError(
                    f"{self.location(0)}: a {type(sample).__name__}{parts}; "
                    f"make it a pair ({columns.kind}, label)"
                )
        self.random, self.reproducible = False, True
        self._labels = None if labels is None or len(labels) != len(samples) else as_list(labels)
        for row in evenly_spaced(len(samples), PROBES):
            self._probe(row)
        self.read_for_labels = self._labels is None

    def __len__(self) -> int:
        return len(self._samples)

    def labels(self) -> Labels:
        """The labels; if they are not at hand, every sample is read for them."""
        if self._labels is None:
            self._labels = [self._pair(row)[1] for row in range(len(self))]
        return Labels.of(self._labels, self.location)

    def content(self, row: int) -> Any:
        """The image of a row.

        Raises:
            UserError: The data set fails to give it.
        """
        return self._pair(row)[0]

    def location(self, row: int) -> str:
        """Name of a sample in an error: its number, from 0."""
        return f"{self._name}, sample {row}"

    def _probe(self, row: int) -> None:
        with seeded(row):
            states = generator_states()
            image, label = self._pair(row)
            self.random |= generator_states() != states
        with seeded(row):
            image_again, _ = self._pair(row)
        if not _equal(image, image_again):
            self.random, self.reproducible = True, False
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
                f"{self.location(row)}: the data set does not give it ({reason}); mend or remove it"
            ) from error

    def _pair(self, row: int) -> tuple[Any, Any]:
        sample, (image_key, label_key) = self._sample(row), self._keys
        try:
            return sample[image_key], sample[label_key]
        except (KeyError, IndexError, TypeError) as error:
            raise UserError(
                f"{self.location(row)}: no pair ({self._columns.kind}, label) as sample 0 is; "
                "mend or remove it"
            ) from error


def evenly_spaced(total: int, count: int) -> Sequence[int]:
    """At most `count` whole numbers below a total, at even distances."""
    return sorted({total * i // count for i in range(count)})


def _equal(a: Any, b: Any) -> bool:
    return np.array_equal(np.asarray(a), np.asarray(b))
