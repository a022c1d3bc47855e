"""Mixup and CutMix: samples of a batch mixed with each other, and their labels with them.

Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018; Yun et al., "CutMix: Regularization
Strategy to Train Strong Classifiers with Localizable Features", ICCV 2019.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from offramp.data.batch import Batch

__all__ = ["Mix"]


@dataclass(frozen=True)
class Mix:
    """Mixes every image of a batch with another one of it, in a proportion drawn once per batch.

    With lam ~ Beta(alpha, alpha), mixup takes lam x + (1 - lam) x' of the pixels. CutMix takes a box of
    1 - lam of the area, clipped at the border, from x'. The label becomes the classes' shares: lam, or the
    area that is left, and the rest. Where both are given, each batch draws one of them.

    Attributes:
        classes: Number of classes.
        mixup: alpha of mixup; 0 leaves it out.
        cutmix: alpha of CutMix; 0 leaves it out.
    """

    classes: int
    mixup: float = 0.0
    cutmix: float = 0.0

    def __call__(self, batch: Batch, generator: Generator) -> Batch:
        """Mix images ``[N, C, H, W]`` with class indices ``[N]``; the labels become ``[N, classes]``."""
        assert isinstance(batch.inputs, Tensor)
        partner = torch.randperm(len(batch), generator=generator).to(batch.inputs.device)
        rng = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
        use_cutmix = rng.random() < 0.5 if self.mixup and self.cutmix else bool(self.cutmix)
        alpha = self.cutmix if use_cutmix else self.mixup
        lam = float(rng.beta(alpha, alpha))
        if use_cutmix:
            images, lam = _cut(batch.inputs, partner, lam, rng)
        else:
            images = batch.inputs * lam + batch.inputs[partner] * (1 - lam)
        return Batch(
            images, {name: self._labels(labels, partner, lam) for name, labels in batch.targets.items()}
        )

    def _labels(self, labels: Tensor, partner: Tensor, lam: float) -> Tensor:
        shares = F.one_hot(labels, self.classes).float()
        return shares * lam + shares[partner] * (1 - lam)


def _cut(images: Tensor, partner: Tensor, lam: float, rng: np.random.Generator) -> tuple[Tensor, float]:
    """The images with a box of their partners', and the share of the area that is their own."""
    height, width = images.shape[-2:]
    side = (1 - lam) ** 0.5
    (top, bottom), (left, right) = (
        np.clip([centre - round(size * side / 2), centre + round(size * side / 2)], 0, size)
        for size, centre in ((height, rng.integers(height)), (width, rng.integers(width)))
    )
    images = images.clone()
    box = (..., slice(top, bottom), slice(left, right))
    images[box] = images[partner][box]
    return images, 1 - (bottom - top) * (right - left) / (height * width)
