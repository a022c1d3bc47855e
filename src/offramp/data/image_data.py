"""A data set for image classification: training, validation and test split."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from offramp.data.split import Split
from offramp.data.stream import StreamSplit
from offramp.errors import UserError

__all__ = ["ImageData"]

Triple = tuple[float, float, float]


class ImageData:
    """Three splits of labelled images.

    Args:
        name: What tables call it.
        source: What `open_data` opens again.
        classes: Names of the classes, in the order of the labels.
        train: What the net learns from.
        val: Held out of the training set, for every choice that is made; may be empty.
        load_test: Gives the test split; called at the first use of `test`.
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
    ) -> None:
        self.name = name
        self.source = source
        self.classes = classes
        self.train = train
        self.val = val
        self._load_test = load_test

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.classes)

    @property
    def input_size(self) -> tuple[int, int, int]:
        """Shape of one image: (3, H, W)."""
        return self.train.input_size

    @cached_property
    def test(self) -> Split | StreamSplit:
        """The test split, decoded at the first use. It is for the final evaluation only.

        Raises:
            UserError: Its images or labels are damaged, or of another size than the training images.
        """
        test = self._load_test()
        if test.input_size != self.input_size:
            ours, theirs = (f"{w}x{h}" for _, h, w in (self.input_size, test.input_size))
            raise UserError(
                f"{self.source}: the training images are {ours}, the test images {theirs}; make them one size"
            )
        return test

    @cached_property
    def statistics(self) -> tuple[Triple, Triple]:
        """Channel means and standard deviations of the training split, on the scale 0 ... 1.

        Raises:
            UserError: The set streams; its pixels are not at hand.
        """
        if isinstance(self.train, StreamSplit):
            raise UserError(
                f"{self.source} streams, and its channel statistics are not computed; "
                "take a pipeline with statistics of its own, such as 'imagenet'"
            )
        images = self.train.images
        counts = (
            torch.stack([images[:, c].flatten().bincount(minlength=256) for c in range(3)]).double().cpu()
        )
        share = counts / counts.sum(1, keepdim=True)
        level = torch.arange(256, dtype=torch.float64) / 255
        mean = share @ level
        variance = (share * (level - mean[:, None]) ** 2).sum(1)
        return _triple(mean), _triple(
            variance.sqrt().clamp(min=1 / 255)
        )  # a blank channel must not divide by zero


def _triple(values: Tensor) -> Triple:
    red, green, blue = values.tolist()
    return red, green, blue
