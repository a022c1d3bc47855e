"""One backward pass for weights that count below the place where losses join, and not above.

Weights of rows act on shared parameters, while what one loss has to itself gets that loss's own gradient.
So the gradient of a loss is multiplied by its weight as it leaves the operations that no other loss went
through, wherever it does: a decoder may read the trunk in many places, and call shared layers by itself. A
hook on each of these border operations does that, and one pass gives both kinds of gradients.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from torch import Tensor
from torch.autograd.graph import Node

from offramp.methods.combiners.jacobian.exit_graph import edge, region_behind

__all__ = ["Borders", "borders_of", "weighing"]

Borders = dict[int, list[tuple[Node, frozenset[int]]]]  # loss -> operations, with the ways that leave them


def borders_of(losses: Sequence[Tensor], weighted: Collection[Tensor], plain: Collection[Tensor]) -> Borders:
    """Where the gradient of each loss leaves the operations that no other loss went through.

    Args:
        losses: K scalars.
        weighted: The parameters that get a weighted gradient, also where a loss reaches one by itself.
        plain: Those that get the plain sum.

    Returns:
        Nothing, where no such borders tell the parameters apart: a loss is made from another one, or losses
        join before they reach a plain parameter.
    """
    roots = {j: edge(loss)[0] for j, loss in enumerate(losses) if loss.requires_grad}
    regions = {j: region_behind([root], {}).nodes for j, root in roots.items()}
    losses_through = Counter(node for nodes in regions.values() for node in nodes)
    if any(losses_through[root] != 1 for root in roots.values()):
        return {}
    borders: Borders = {}
    for j, nodes in regions.items():
        for node in nodes:
            ways = [(behind, getattr(behind, "variable", None)) for behind, _ in node.next_functions]
            if losses_through[node] > 1:
                if any(leaf in plain for _, leaf in ways):
                    return {}
                continue
            leaving = {
                i
                for i, (behind, leaf) in enumerate(ways)
                if leaf in weighted or (behind is not None and losses_through[behind] > 1)
            }
            if leaving:
                borders.setdefault(j, []).append((node, frozenset(leaving)))
    return borders


@contextmanager
def weighing(borders: Borders, weights: Mapping[int, float]) -> Iterator[None]:
    """Multiply the gradient of each loss by its weight where it crosses its border.

    Args:
        borders: Of these losses.
        weights: Of losses; what is missing weighs 1.
    """
    handles = [
        node.register_hook(partial(_weigh, weights[j], leaving))
        for j, crossings in borders.items()
        if weights.get(j, 1.0) != 1
        for node, leaving in crossings
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _weigh(
    weight: float, leaving: Collection[int], gradients: Sequence[Tensor | None], _: object
) -> tuple[Tensor | None, ...]:
    return tuple(weight * g if i in leaving and g is not None else g for i, g in enumerate(gradients))
