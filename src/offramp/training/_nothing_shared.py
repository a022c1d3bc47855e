"""Parts of a method that have nothing to work on, since what several losses reach is frozen."""

from __future__ import annotations

from offramp.forks import ForkedNet, rotations_of
from offramp.methods import Method
from offramp.methods.combiners import Sum
from offramp.nets import Net

__all__ = ["parts_with_nothing_shared"]


def parts_with_nothing_shared(net: Net, method: Method) -> list[str]:
    """Names of a method's combiner and forks, where they change no gradient of anything that is trained.

    Args:
        net: The net with the method's forks in place; what its user has frozen is frozen.
        method: The method.
    """
    idle: list[object] = []
    if not isinstance(method.combiner, Sum):
        owners = net.owners()
        trained = [name for name, parameter in net.named_parameters() if parameter.requires_grad]
        if all(len(owners[name]) < 2 for name in trained):
            idle.append(method.combiner)
    gradients_alone = not method.lasting and not [*rotations_of(net)]
    if method.forks and gradients_alone and isinstance(net, ForkedNet):
        before = net.stages[: len(net.forks)]
        if not any(parameter.requires_grad for parameter in before.parameters()):
            idle += method.forks
    return [method.bringer(part) for part in idle]
