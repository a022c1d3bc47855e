"""Mixup and CutMix: samples of a batch mixed with each other, and their labels with them.

Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018; Yun et al., "CutMix: Regularization
Strategy to Train Strong Classifiers with Localizable Features", ICCV 2019.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from offramp.data.batch import Batch
from offramp.data.targets import Target

__all__ = ["Mix"]


@dataclass(frozen=True)
class Mix:
    """Mixes every image of a batch with another one of it, in a proportion drawn once per batch.

    With lam ~ Beta(alpha, alpha), mixup takes lam x + (1 - lam) x' of the pixels. CutMix takes a box of
    1 - lam of the area, clipped at the border, from x'. The label becomes the classes' shares: lam, or the
    area that is left, and the rest. Where both are given, each batch draws one of them.

    Attributes:
        kinds: What each target is: classes, or several labels at once.
        mixup: alpha of mixup; 0 leaves it out.
        cutmix: alpha of CutMix; 0 leaves it out.
    """

    kinds: Mapping[str, Target]
    mixup: float = 0.0
    cutmix: float = 0.0

    def __call__(self, batch: Batch, generator: Generator) -> Batch:
        """Mix images ``[N, C, H, W]``; class indices ``[N]`` become ``[N, classes]``."""
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
        targets = {}
        for key, target in batch.targets.items():
            kind = self.kinds[key]
            shares = F.one_hot(target, kind.size).float() if kind.kind == "class" else target
            targets[key] = shares * lam + shares[partner] * (1 - lam)
        return replace(batch, inputs=images, targets=targets)


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
