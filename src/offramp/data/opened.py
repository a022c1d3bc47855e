"""What every opened data set is: a training, a validation and a test split, and what targets they have."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Generic, TypeVar

from offramp.data._split_checks import check_split, check_targets
from offramp.data.batch import Origin
from offramp.data.batches import Batches
from offramp.data.targets import LABEL, Target
from offramp.errors import UserError, an_object, cut, shown

__all__ = ["OpenedData"]

S = TypeVar("S", bound=Batches)


class OpenedData(Generic[S]):
    """Three splits of labelled samples; a subclass says of what kind they are.

    Attributes:
        read: How texts were read, as a run notes it (:class:`~offramp.data.text_data.TextData`); None of
            images.

    Args:
        name: Its name in tables.
        source: The text with which `open_data` opens it again.
        targets: What the samples are labelled with, by key; of a set of classes alone, ``label``.
        train: What the net learns from.
        val: Held out of the training set, for every choice that is made; may be empty.
        load_test: Gives the test split; called at the first use of `test`.
        notes: What its user should know before a training, line by line.
        digest: Of data that exist in Python only, what tells them from others; None: `source` says where they
            are.
        labels_digest: Of data on disk, what tells that each sample still has the targets that it had; None:
            that is not known.
        named: Whether the set itself names its classes.

    Raises:
        UserError: The training split is empty, or a split has other targets than are said.
    """

    read: Mapping[str, Any] | None = None
    SPLITS: ClassVar[tuple[type[Batches], ...]] = (Batches,)  # what its splits may be

    def __init__(
        self,
        *,
        name: str,
        source: str,
        targets: Mapping[str, Target],
        train: S,
        val: S,
        load_test: Callable[[], S],
        notes: Sequence[str] = (),
        digest: str | None = None,
        labels_digest: str | None = None,
        named: bool = True,
    ) -> None:
        texts = {"name": name, "source": source}
        texts |= {"digest": digest or "", "labels_digest": labels_digest or ""}
        for key, text in texts.items():
            if not isinstance(text, str):
                raise UserError(f"{key} is {shown(text)}, must be a text")
        if not isinstance(notes, (list, tuple)) or not all(isinstance(note, str) for note in notes):
            raise UserError(f"notes are {shown(notes)}, must be a list of lines")
        check_targets(targets)
        if not callable(load_test):
            raise UserError(f"load_test is {shown(load_test)}, must be a function that gives the test split")
        self.name = name
        self.source = source
        self.targets = dict(targets)
        self.train = train
        self.val = val
        self._check_split("train", train)
        self._check_split("val", val)
        train.origin, val.origin = Origin(name, "train"), Origin(name, "val")
        self._load_test = load_test
        self.notes, self.named = tuple(notes), named
        self.digest, self.labels_digest = digest, labels_digest

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that ``label`` tells apart, in their order.

        Raises:
            UserError: The set has other targets.
        """
        if LABEL not in self.targets:
            raise UserError(
                f"{self.name} has no target {shown(LABEL)}; its targets are {', '.join(self.targets)}"
            )
        return self.targets[LABEL].classes

    @property
    def num_classes(self) -> int:
        """Number of classes of ``label``."""
        return len(self.classes)

    @property
    def dense(self) -> bool:
        """Whether some of the targets are those of every pixel."""
        return any(target.dense for target in self.targets.values())

    @property
    def input_size(self) -> tuple[int, ...]:
        """Shape of one input, without the batch axis."""
        raise NotImplementedError

    @cached_property
    def test(self) -> S:
        """The test split, read at the first use. It is for the final evaluation only.

        Raises:
            UserError: Its samples or labels are damaged, or of another kind than the training samples.
        """
        test = self._load_test()
        self._check_split("test", test)
        test.origin = Origin(self.name, "test", is_test=True)
        return test

    def _check_split(self, name: str, split: S) -> None:
        """Check that a split has samples of the kind of the training samples, with the targets that are said.

        Args:
            name: ``"train"``, ``"val"`` or ``"test"``.
            split: The split.
        """
        if isinstance(split, Batches) and not isinstance(split, self.SPLITS):
            kinds = " or ".join(kind.__name__ for kind in self.SPLITS)
            raise UserError(
                f"the {name} split of {cut(self.name, 100)} is {an_object(split)}; give a {kinds}"
            )
        check_split(
            split, self.targets, f"the {name} split of {cut(self.name, 100)}", may_be_empty=name == "val"
        )
