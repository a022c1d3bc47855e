"""Every exit also learns what the last exit said of the same image in the epochs before.

A trial of the hunt, not a method of offramp's table. Of each training image a moving average of the last
exit's probabilities is kept, over the epochs and with them over augmentations, as in temporal ensembling
(Laine and Aila, ICLR 2017). It takes no pass of its own. Every exit, the last too, learns from the label and
from that average, whose share grows with the training as in PS-KD (Kim et al., ICCV 2021):

    loss_k = CE(z_k, (1 - a) y + a q),      a = alpha * progress.

    python results/hunt/kept_answers.py --data path/to/cifar10 --out runs/kept-answers
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from _trial import flags, train
from torch import Tensor, nn

import offramp
from offramp.data import OpenedData, Split, Target, TargetTensors
from offramp.data.image_data import ImageData
from offramp.methods import Method
from offramp.methods.objectives.objective import Objective
from offramp.methods.objectives.step import Step
from offramp.tasks.soft_targets import soft_loss, soft_targets

NUMBER = "number"  # of an image, among the training images


@dataclass(frozen=True, kw_only=True)
class KeptAnswers(Objective):
    """Each exit learns the labels, and a moving average of what the last exit has said of the image.

    Attributes:
        images: How many training images there are.
        classes: Of how many classes they are.
        alpha: Share of the average at the end of the training.
        momentum: Of the moving average.
    """

    reads_epochs = ("share",)
    images: int
    classes: int
    alpha: float = 0.8
    momentum: float = 0.8

    def bind(self, net: nn.Module, seed: int = 0) -> Callable[[Step], list[Tensor]]:  # noqa: D102
        return _Kept(self)


class _Kept(nn.Module):
    answers: Tensor  # of each image the weighted sum of what was said of it
    counted: Tensor  # the sum of the weights

    def __init__(self, options: KeptAnswers) -> None:
        super().__init__()
        self.options = options
        self.register_buffer("answers", torch.zeros(options.images, options.classes))
        self.register_buffer("counted", torch.zeros(options.images))

    def forward(self, step: Step) -> list[Tensor]:
        numbers = step.targets[NUMBER][:, 0].long()
        counted = self.counted[numbers]
        share = self.options.alpha * step.progress * (counted > 0)
        answers = self.answers[numbers] / counted.clamp(min=1e-9)[:, None]
        losses = [
            step.loss(k, 1 - share) + step.mean(share * soft_loss(step.outputs[k], answers, 1.0))
            for k in step.present
        ]
        if self.training:
            momentum = self.options.momentum
            said = soft_targets(step.outputs[-1], 1.0)
            self.answers[numbers] = momentum * self.answers[numbers] + (1 - momentum) * said
            self.counted[numbers] = momentum * counted + (1 - momentum)
        return losses


def numbered(data: OpenedData[Split]) -> ImageData:
    """The set, each image of which has its number as one more target."""
    kinds = {**data.targets, NUMBER: Target("values", size=1)}

    def of(split: Split) -> Split:
        numbers = torch.arange(len(split), dtype=torch.float32)[:, None]
        return Split(split.images, TargetTensors({**split.targets, NUMBER: numbers}, kinds))

    return ImageData(
        name=data.name,
        source=data.source,
        targets=kinds,
        train=of(data.train),
        val=of(data.val),
        load_test=lambda: of(data.test),
    )


def main() -> None:
    """Train by the flags of the command line."""
    parser = flags(__doc__.splitlines()[0])
    parser.add_argument("--alpha", type=float, default=0.8)
    args = parser.parse_args()
    data = numbered(offramp.open_data(args.data, train_limit=args.limit))
    objective = KeptAnswers(images=len(data.train), classes=data.num_classes, alpha=args.alpha)
    parts = {"objective": objective}
    train(args, Method("kept-answers", "every exit learns what the last has said", "", parts), data)


if __name__ == "__main__":
    main()
