"""A module in another mode for a moment, and as it was afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from offramp.copying import values_kept

__all__ = [
    "STAYED",
    "all_frozen",
    "buffers_copied",
    "buffers_kept",
    "evaluating",
    "measuring",
    "modes_kept",
    "outermost_in_eval",
    "to_training",
]

STAYED = "_stays_in_eval_mode"  # attribute of a module: whether the last training left it in evaluation mode


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Put every module in evaluation mode, and each back in its own mode afterwards."""
    with modes_kept(net):
        net.eval()
        yield


@contextmanager
def measuring(net: nn.Module) -> Iterator[None]:
    """Context: batch norm uses the batch's statistics, dropout is off; afterwards all is as before.

    A loss before and after a small step differs by little. Dropout would draw anew in between and hide it.
    A norm layer that training leaves in evaluation mode (:func:`to_training`) is left there here too. Modes
    and running statistics are the net's own again afterwards.
    """
    with modes_kept(net), buffers_kept(net):
        to_training(net)
        norms = [module for module in net.modules() if isinstance(module, _NormBase) and module.training]
        net.eval()
        for module in norms:
            module.train()
        yield


def to_training(net: nn.Module) -> None:
    """Put a net in the modes that it is trained in.

    A net that comes in training mode is in them: what was put into evaluation mode by hand stays there. Of a
    net that comes in evaluation mode all is trained but for two kinds of modules, with whatever is in them:
    those whose parameters are all frozen, since the statistics of a frozen backbone shall not move; and those
    that the training before left in evaluation mode. Two trainings treat a net alike: what was frozen in the
    one before, and in training mode all the same, is so again.
    """
    if not net.training:
        came = {module: module.training for module in net.modules()}
        stay = {part for module in came if _stays(module) for part in module.modules()}
        net.train()  # the net's own method, which may keep more of it in evaluation mode
        for module in stay:
            module.training = came[module]


def outermost_in_eval(module: nn.Module, name: str = "") -> Iterator[str]:
    """Names of the outermost modules that are in evaluation mode; "" is the module itself."""
    if not module.training:
        yield name
        return
    for child, inner in module.named_children():
        yield from outermost_in_eval(inner, f"{name}.{child}" if name else child)


def all_frozen(module: nn.Module) -> bool:
    """Whether a module has parameters, and none of them is trained."""
    parameters = list(module.parameters())
    return bool(parameters) and not any(p.requires_grad for p in parameters)


def _stays(module: nn.Module) -> bool:
    return not module.training and vars(module).get(STAYED, all_frozen(module))


@contextmanager
def modes_kept(net: nn.Module) -> Iterator[None]:
    """Put each module back in its own mode afterwards."""
    modes = {module: module.training for module in net.modules()}
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def buffers_kept(module: nn.Module) -> Iterator[None]:
    """Put every buffer's values back afterwards."""
    with ExitStack() as stack:
        for buffer in module.buffers():
            stack.callback(values_kept(buffer))
        yield


@contextmanager
def buffers_copied(module: nn.Module) -> Iterator[None]:
    """Have a module work on copies of its buffers meanwhile: graphs that saved the buffers stay valid."""
    copies: dict[int, Tensor] = {}
    own = [(part, name, b) for part in module.modules() for name, b in part._buffers.items() if b is not None]
    for part, name, buffer in own:
        if id(buffer) not in copies:
            copies[id(buffer)] = buffer.clone()
        part._buffers[name] = copies[id(buffer)]
    try:
        yield
    finally:
        for part, name, buffer in own:
            part._buffers[name] = buffer
