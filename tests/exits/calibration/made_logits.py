"""Made logits of exits that get better with depth, and made costs."""

import torch

from offramp.exits import ExitLogits


def made_logits(samples: int, *, exits: int = 4, classes: int = 5, seed: int = 0) -> ExitLogits:
    """Samples of different difficulty, about which later exits are surer and more often right."""
    draws = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (samples,), generator=draws)
    ease = torch.randn(samples, generator=draws)
    noise, logits = torch.zeros(samples, classes), []
    for k in range(exits):
        noise = 0.7 * (noise + torch.randn(samples, classes, generator=draws))
        signal = (0.8 + 0.5 * k + 0.8 * ease).clamp(min=0)
        logits.append(2 * torch.nn.functional.one_hot(labels, classes) * signal[:, None] + noise)
    return ExitLogits(torch.stack(logits), labels, net="00")


class Costs:
    """Costs of stages, and of heads where these are evaluated."""

    def __init__(self, stages, heads):
        self.stages, self.heads = stages, heads

    def of(self, evaluated):
        return [
            sum(self.stages[:k]) + sum(self.heads[j - 1] for j in evaluated if j <= k)
            for k in sorted(evaluated)
        ]
