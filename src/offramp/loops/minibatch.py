"""The plain loop: one batch, one step of the optimiser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from offramp.methods import Method
from offramp.nets import MultiExitNet
from offramp.objectives import Step

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.wrappers import _FabricOptimizer
    from torch.nn import Module

__all__ = ["minibatch_step"]


def minibatch_step(
    images: Tensor,
    targets: Tensor,
    *,
    model: Module,
    net: MultiExitNet,
    method: Method,
    optimizer: _FabricOptimizer,
    fabric: Fabric,
    progress: float,
    label_smoothing: float = 0.0,
    clip: float = 0.0,
) -> Tensor:
    """Train on one batch: forward, objective, combiner, clip, optimiser.

    Args:
        images: ``[N, C, H, W]``.
        targets: Class indices ``[N]``.
        model: The net as Fabric wrapped it (precision, data parallel), perhaps compiled.
        net: The net itself.
        method: Whose objective and combiner to use.
        optimizer: As Fabric wrapped it.
        fabric: Runs the backward passes and clips.
        progress: Share of the training done, from 0 to 1.
        label_smoothing: Mass of the target spread over all classes.
        clip: Largest norm of the whole gradient; 0 leaves it alone.

    Returns:
        The K losses before the step, detached.
    """
    outputs = model(images)
    step = Step(net, outputs, targets, progress, label_smoothing)
    losses = method.objective(step)
    optimizer.zero_grad()
    method.combiner(losses, step, fabric.backward)
    if clip:
        # under loss scaling an overflow is normal: the scaler sees it too and skips the step
        fabric.clip_gradients(model, optimizer, max_norm=clip, error_if_nonfinite=False)
    optimizer.step()
    return torch.stack(list(losses)).detach()
