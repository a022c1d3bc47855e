"""The second stage of IMTA: new classifiers on a frozen net, each of which reads what the one before says.

Li et al., "Improved Techniques for Training Adaptive Deep Networks", ICCV 2019, arXiv:1908.06294, and its
public code.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from offramp.methods.passes import Passes
from offramp.methods.regimes.regime import HeadsAlone, Period
from offramp.nets import MultiExitNet
from offramp.nets.collaborative_heads import CollaborativeHead, LastCollaborativeHead
from offramp.nets.head_parts import head_parts

__all__ = ["InlineCollaboration"]


@dataclass(frozen=True, kw_only=True)
class InlineCollaboration(HeadsAlone):
    """New classifiers for all exits are trained, on the features of the old heads, and nothing else.

    The loss of an exit reaches its classifier and those before it
    (:class:`~offramp.nets.collaborative_heads.CollaborativeHead`).
    """

    reads_epochs = ()
    bodies_rest = True
    idle = ("fork", "loop")
    idle_since = "trains classifiers alone, on stages that are frozen"

    def new_heads(self, net: MultiExitNet, method: str) -> list[nn.Module]:  # noqa: D102
        *shallow, last = head_parts(net.heads, method)
        heads = [CollaborativeHead(parts, number) for number, parts in enumerate(shallow, start=1)]
        return [*heads, LastCollaborativeHead(last, len(net.heads))]

    def periods(self, epochs: int, net: nn.Module) -> list[Period]:  # noqa: D102
        heads = [head for head in net.modules() if isinstance(head, CollaborativeHead)]
        classifiers = tuple(part for head in heads for part in head.classifier)
        return [Period("classifiers", epochs, trained=classifiers, passes=Passes(1, 0))]
