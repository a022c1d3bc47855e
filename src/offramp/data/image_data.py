"""A data set of images: training, validation and test split."""

from __future__ import annotations

from functools import cached_property

from offramp.data._statistics import Levels, statistics
from offramp.data.dense_stream import DenseStream
from offramp.data.opened import OpenedData
from offramp.data.split import Split
from offramp.data.stream import StreamSplit
from offramp.errors import UserError

__all__ = ["ImageData"]

SAMPLE = 1000  # images; means and deviations of a whole set lie within a hundredth of theirs


class ImageData(OpenedData[Split | StreamSplit | DenseStream]):
    """Three splits of labelled images; see :class:`~offramp.data.opened.OpenedData`."""

    @property
    def input_size(self) -> tuple[int, int, int]:
        """Shape of one image: (C, H, W)."""
        return self.train.input_size

    def _check_test(self, test: Split | StreamSplit | DenseStream) -> None:
        if test.input_size != self.input_size:
            train_size, test_size = (f"{w}x{h}" for _, h, w in (self.input_size, test.input_size))
            squares = "cut all to squares of one size, e.g. by `size=224`"
            raise UserError(
                f"{self.source}: the training images are {train_size}, the test images {test_size}; "
                f"{'give all one size' if self.dense else squares}"
            )

    @cached_property
    def statistics(self) -> tuple[Levels, Levels]:
        """Channel means and deviations of the training split; levels on the scale 0 ... 1, floats on theirs.

        Those of a set that streams are of 1,000 images, evenly spread.
        """
        return statistics(self.train.sample(SAMPLE))
