"""Handwritten digits that come with the package: the set that needs no download.

The file holds ``sklearn.datasets.load_digits``, which is the test part of E. Alpaydin and C. Kaynak, *Optical
Recognition of Handwritten Digits*, UCI Machine Learning Repository, 1998 (CC BY 4.0).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

__all__ = ["TEST", "load_digits"]

TEST = 360  # the number of images at the end that are the test set
FILE = Path(__file__).with_name("digits.npz")


def load_digits() -> tuple[Tensor, Tensor]:
    """All 1,797 digits; the last 360 are the test set.

    The 8x8 images with levels 0 ... 16 are enlarged fourfold and scaled to 0 ... 255, three equal channels.

    Returns:
        uint8 images ``[1797, 3, 32, 32]`` and int64 labels ``[1797]``.
    """
    with np.load(FILE, allow_pickle=False) as file:
        levels, labels = file["levels"], file["labels"]
    small = torch.from_numpy(np.round(levels * (255 / 16)).astype(np.uint8))[:, None]
    large = small.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    return large.repeat(1, 3, 1, 1), torch.from_numpy(labels.astype(np.int64))
