"""The accuracy of a net on a split, in float32, shared by the processes if there are several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from offramp.metrics import Accuracy, evaluate
from offramp.nets import Cost, Net
from offramp.training.processes import share, total

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from offramp.data import Split, StreamSplit, Transform

__all__ = ["averaged_result", "evaluate_split", "final_result"]


def evaluate_split(
    net: Net,
    split: Split | StreamSplit,
    transform: Transform,
    batch_size: int,
    fabric: Fabric | None = None,
) -> Accuracy:
    """The accuracy on transformed images, on the net's device; the processes share the batches."""
    device = next(net.parameters()).device
    rank, world = (0, 1) if fabric is None else (fabric.global_rank, fabric.world_size)
    if fabric is not None:
        share(net.buffers(), fabric)  # batch statistics are each one's own until the next step
    batches = split.batches(
        max(batch_size // world, 1),
        transform=transform,
        device=device,
        rank=rank,
        world=world,
    )
    return evaluate(net, batches, add_up=lambda counts: counts if fabric is None else total(counts, fabric))


def final_result(found: Accuracy, counted: Cost, record: dict[str, Any]) -> dict[str, Any]:
    """What result.json holds: percent, and raw counts of parameters and operations (null: unknown)."""
    return {
        "net": record["net"]["net"],
        "method": record["method"],
        "data": record["data"]["name"],
        "seed": record["seed"],
        "exits": [
            {"top1": top1, "top5": top5, "params": exit_cost.params, "flops": exit_cost.flops}
            for (top1, top5), exit_cost in zip(found.exits, counted.exits, strict=True)
        ],
        "average_top1": found.average_top1,
        "ensemble_top1": found.ensemble_top1,
        "convention": counted.convention,
    }


def averaged_result(found: Accuracy) -> dict[str, Any]:
    """What result.json holds of the moving average of the weights: percent, as of the weights themselves."""
    return {
        "exits": [{"top1": top1, "top5": top5} for top1, top5 in found.exits],
        "average_top1": found.average_top1,
        "ensemble_top1": found.ensemble_top1,
    }
