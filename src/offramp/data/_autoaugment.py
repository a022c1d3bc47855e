"""AutoAugment's CIFAR-10 policy on batches (Cubuk et al., CVPR 2019)."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from offramp.data._image_ops import OPS

__all__ = ["POLICY", "autoaugment", "magnitude"]

# The 25 sub-policies: (operation, probability, magnitude index) twice, one after the other.
POLICY = (
    (("invert", 0.1, 7), ("contrast", 0.2, 6)),
    (("rotate", 0.7, 2), ("translate_x", 0.3, 9)),
    (("sharpness", 0.8, 1), ("sharpness", 0.9, 3)),
    (("shear_y", 0.5, 8), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.5, 8), ("equalize", 0.9, 2)),
    (("shear_y", 0.2, 7), ("posterize", 0.3, 7)),
    (("color", 0.4, 3), ("brightness", 0.6, 7)),
    (("sharpness", 0.3, 9), ("brightness", 0.7, 9)),
    (("equalize", 0.6, 5), ("equalize", 0.5, 1)),
    (("contrast", 0.6, 7), ("sharpness", 0.6, 5)),
    (("color", 0.7, 7), ("translate_x", 0.5, 8)),
    (("equalize", 0.3, 7), ("autocontrast", 0.4, 8)),
    (("translate_y", 0.4, 3), ("sharpness", 0.2, 6)),
    (("brightness", 0.9, 6), ("color", 0.2, 8)),
    (("solarize", 0.5, 2), ("invert", 0.0, 3)),
    (("equalize", 0.2, 0), ("autocontrast", 0.6, 0)),
    (("equalize", 0.2, 8), ("equalize", 0.6, 4)),
    (("color", 0.9, 9), ("equalize", 0.6, 6)),
    (("autocontrast", 0.8, 4), ("solarize", 0.2, 8)),
    (("brightness", 0.1, 3), ("color", 0.7, 0)),
    (("solarize", 0.4, 5), ("autocontrast", 0.9, 3)),
    (("translate_y", 0.9, 9), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.9, 2), ("solarize", 0.8, 3)),
    (("equalize", 0.8, 8), ("invert", 0.1, 3)),
    (("translate_y", 0.7, 9), ("autocontrast", 0.9, 1)),
)

# The operations whose sign is drawn: neutral value and largest change.
SIGNED = {
    "shear_y": (0.0, 0.3),
    "translate_x": (0.0, 150 / 331),
    "translate_y": (0.0, 150 / 331),
    "color": (1.0, 0.9),
    "contrast": (1.0, 0.9),
    "brightness": (1.0, 0.9),
    "sharpness": (1.0, 0.9),
}


def magnitude(op: str, index: int, sign: int = 1) -> float:
    """Magnitude of an operation at index 0 ... 9; `sign` (1 or -1) is for the operations that draw one."""
    fraction = index / 9
    if op in SIGNED:
        neutral, largest = SIGNED[op]
        return neutral + sign * fraction * largest
    if op == "rotate":
        return fraction * 30  # degrees, counter-clockwise only
    if op == "posterize":
        return round(8 - fraction * 4)  # bits kept
    if op == "solarize":
        return 256 - fraction * 256  # threshold
    return 0.0


_NAMES = tuple(OPS)
_OP = torch.tensor([[_NAMES.index(op) for op, _, _ in pair] for pair in POLICY])
_PROBABILITY = torch.tensor([[p for _, p, _ in pair] for pair in POLICY])
_MAGNITUDE = torch.tensor(
    [[[magnitude(op, i, sign) for sign in (-1, 1)] for op, _, i in pair] for pair in POLICY],
    dtype=torch.float64,
)


def autoaugment(images: Tensor, generator: Generator) -> Tensor:
    """Put each image through one of the 25 sub-policies, drawn at random.

    The sub-policies' two steps run one after the other over the whole batch; within a step the images are
    grouped by operation, so that each operation runs once.

    Args:
        images: uint8 ``[B, 3, H, W]``.
        generator: The CPU generator that draws sub-policies, chances and signs.
    """
    count = len(images)
    chosen = torch.randint(len(POLICY), (count,), generator=generator)
    applies = torch.rand(count, 2, generator=generator) < _PROBABILITY[chosen]
    sign = torch.randint(2, (count, 2), generator=generator)
    images = images.clone()
    for step in (0, 1):
        op = torch.where(applies[:, step], _OP[chosen, step], -1)
        strength = _MAGNITUDE[chosen, step, sign[:, step]]
        for index, name in enumerate(_NAMES):
            rows = (op == index).nonzero()[:, 0]
            if len(rows):
                amount = strength[rows].to(images.device)
                rows = rows.to(images.device)
                images.index_copy_(0, rows, OPS[name](images.index_select(0, rows), amount))
    return images
