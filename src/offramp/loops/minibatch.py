"""The plain loop: one batch, one step of the optimiser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from offramp.loops.bench import Bench
from offramp.loops.loop import Loop, Moment, Part, Work

__all__ = ["Minibatch"]


@dataclass(frozen=True, kw_only=True)
class Minibatch(Loop):
    """An epoch is one run over the training images: forward, objective, combiner, clip, optimiser."""

    def start(self, bench: Bench) -> Work:  # noqa: D102
        return _Descent(bench)


class _Descent(Work):
    parts = (Part(),)

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        modules = (bench.net, bench.running)
        self.optimizer = bench.optimizer([p for m in modules for p in m.parameters() if p.requires_grad])

    def step(self, part: int, images: Tensor, targets: Tensor, moment: Moment) -> Tensor:
        bench, running = self.bench, self.bench.running
        for group in self.optimizer.param_groups:
            group["lr"] = moment.lr * group.get("lr_factor", 1.0)  # the recipe's groups
        found = bench.forward(images, targets, moment)
        losses = running.losses(found)
        self.optimizer.zero_grad()
        running.combine(losses, found, bench.backward())
        for parameter in running.parameters():  # not in the model that averages its gradients
            if parameter.grad is not None:
                bench.average(parameter.grad)
        bench.update(self.optimizer, bench.net, running)
        return torch.stack(list(losses)).detach()

    def state(self) -> dict[str, Any]:
        return {"method": self.bench.running.state_dict(), "optimizer": self.optimizer.optimizer.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        self.bench.running.load_state_dict(state["method"])
        self.optimizer.optimizer.load_state_dict(state["optimizer"])
