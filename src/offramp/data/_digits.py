"""scikit-learn's handwritten digits: the set that needs no download."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from offramp.data._extra import extra

__all__ = ["TEST", "load_digits"]

TEST = 360  # the number of images at the end that are the test set


def load_digits() -> tuple[Tensor, Tensor]:
    """All 1,797 digits; the last 360 are the test set.

    The 8x8 images with levels 0 ... 16 are enlarged fourfold and scaled to 0 ... 255, three equal channels.

    Returns:
        uint8 images ``[1797, 3, 32, 32]`` and int64 labels ``[1797]``.

    Raises:
        UserError: scikit-learn is not installed.
    """
    levels, labels = extra("sklearn.datasets").load_digits(return_X_y=True)
    small = torch.from_numpy(np.round(levels * (255 / 16)).astype(np.uint8)).view(-1, 1, 8, 8)
    large = small.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    return large.repeat(1, 3, 1, 1), torch.from_numpy(labels.astype(np.int64))
