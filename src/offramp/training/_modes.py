"""Training mode for the time of a training, and evaluation mode after it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from offramp.modes import STAYED, all_frozen, outermost_in_eval, to_training

__all__ = ["in_training_mode"]


@contextmanager
def in_training_mode(net: nn.Module) -> Iterator[list[str]]:
    """Put a net in the modes that it is trained in (:func:`~offramp.modes.to_training`).

    Afterwards it is in evaluation mode; after an error, in the modes it came in.

    Yields:
        Names of the outermost modules that stay in evaluation mode.
    """
    came = {module: module.training for module in net.modules()}
    try:
        to_training(net)
        yield list(outermost_in_eval(net))
    except BaseException:
        for module, training in came.items():
            module.training = training
        raise
    for module in net.modules():
        vars(module).pop(STAYED, None)
        if not module.training or all_frozen(module):
            vars(module)[STAYED] = not module.training
    net.eval()
