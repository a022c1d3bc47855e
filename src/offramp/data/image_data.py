"""A data set of images: training, validation and test split."""

from __future__ import annotations

from functools import cached_property

from offramp.data._statistics import Levels, statistics
from offramp.data.dense_stream import DenseStream
from offramp.data.opened import OpenedData
from offramp.data.split import Split
from offramp.data.stream import StreamSplit
from offramp.errors import UserError, shown

__all__ = ["ImageData"]

SAMPLE = 1000  # images; means and deviations of a whole set lie within a hundredth of theirs


class ImageData(OpenedData[Split | StreamSplit | DenseStream]):
    """Three splits of labelled images; see :class:`~offramp.data.opened.OpenedData`."""

    SPLITS = (Split, StreamSplit, DenseStream)

    @property
    def input_size(self) -> tuple[int, int, int]:
        """Shape of one image: (C, H, W)."""
        return self.train.input_size

    def _check_split(self, name: str, split: Split | StreamSplit | DenseStream) -> None:
        super()._check_split(name, split)
        if not len(split):
            return
        if split.input_size != self.input_size:
            own, other = (f"{w}x{h}" for _, h, w in (self.input_size, split.input_size))
            squares = "cut all to squares of one size, e.g. by `size=224`"
            raise UserError(
                f"{self.source}: the training images are {own}, the {name} images {other}; "
                f"{'give all one size' if self.dense else squares}"
            )
        if split.dtype != self.train.dtype:
            kinds = [str(each.dtype).removeprefix("torch.") for each in (self.train, split)]
            raise UserError(
                f"{self.source}: the training images are {kinds[0]}, the {name} images {kinds[1]}, which are "
                "normalised in other ways; give all one type"
            )
        for key, target in self.targets.items():
            if (
                target.dense
                and key in split.targets
                and split.targets[key].shape[-2:] != split.input_size[1:]
            ):
                raise UserError(
                    f"{self.source}: {shown(key)} of the {name} split is not of the images' size; give "
                    "maps of that size"
                )

    @cached_property
    def statistics(self) -> tuple[Levels, Levels]:
        """Channel means and deviations of the training split; levels on the scale 0 ... 1, floats on theirs.

        Those of a set that streams are of 1,000 images, evenly spread.
        """
        return statistics(self.train.sample(SAMPLE))
