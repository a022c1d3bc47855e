"""A data set for image classification: training, validation and test split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

from offramp.data._statistics import Levels, statistics
from offramp.data.batch import Origin
from offramp.data.split import Split
from offramp.data.stream import StreamSplit
from offramp.errors import UserError

__all__ = ["ImageData"]

SAMPLE = 1000  # images; means and deviations of a whole set lie within a hundredth of theirs


class ImageData:
    """Three splits of labelled images.

    Args:
        name: Its name in tables.
        source: The text with which `open_data` opens it again.
        classes: Names of the classes, in the order of the labels.
        train: What the net learns from.
        val: Held out of the training set, for every choice that is made; may be empty.
        load_test: Gives the test split; called at the first use of `test`.
        notes: What its user should know before a training, line by line.
        digest: Of data that exist in Python only, what tells them from others; None: `source` says where they
            are.
        named: Whether the set itself names its classes.
    """

    def __init__(
        self,
        *,
        name: str,
        source: str,
        classes: tuple[str, ...],
        train: Split | StreamSplit,
        val: Split | StreamSplit,
        load_test: Callable[[], Split | StreamSplit],
        notes: Sequence[str] = (),
        digest: str | None = None,
        named: bool = True,
    ) -> None:
        self.name = name
        self.source = source
        self.classes = classes
        self.train = train
        self.val = val
        train.origin, val.origin = Origin(name, "train"), Origin(name, "val")
        self._load_test = load_test
        self.notes, self.digest, self.named = tuple(notes), digest, named

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def input_size(self) -> tuple[int, int, int]:
        """Shape of one image: (C, H, W)."""
        return self.train.input_size

    @cached_property
    def test(self) -> Split | StreamSplit:
        """The test split, decoded at the first use. It is for the final evaluation only.

        Raises:
            UserError: Its images or labels are damaged, or of another size than the training images.
        """
        test = self._load_test()
        if test.input_size != self.input_size:
            train_size, test_size = (f"{w}x{h}" for _, h, w in (self.input_size, test.input_size))
            raise UserError(
                f"{self.source}: the training images are {train_size}, the test images {test_size}; "
                "cut all to squares of one size, e.g. by `size=224`"
            )
        test.origin = Origin(self.name, "test", is_test=True)
        return test

    @cached_property
    def statistics(self) -> tuple[Levels, Levels]:
        """Channel means and deviations of the training split; levels on the scale 0 ... 1, floats on theirs.

        Those of a set that streams are of 1,000 images, evenly spread.
        """
        return statistics(self.train.sample(SAMPLE))
