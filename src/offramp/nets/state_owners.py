"""Ownership of all that a net holds: which outputs each parameter and each buffer belongs to."""

from __future__ import annotations

from offramp.nets.net import Net

__all__ = ["owners_of_state"]


def owners_of_state(net: Net) -> dict[str, tuple[int, ...]]:
    """Outputs (from 0, ascending) that own each parameter and each buffer.

    A buffer belongs to the owners of its module's parameters; of a module without any, to all outputs.
    """
    own = net.owners()
    owners_of = {name: tuple(sorted(owners)) for name, owners in own.items()}
    for path, module in net.named_modules():
        names = [f"{path}.{name}" if path else name for name, _ in module.named_parameters(recurse=False)]
        owners = {k for name in names for k in own.get(name, ())} or range(len(net.outputs))
        for name, _ in module.named_buffers(path, recurse=False):
            owners_of[name] = tuple(sorted(owners))
    return owners_of
