"""``offramp cost``: what every exit costs, and what a training step costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import tyro

from offramp.cli.answer import OUTPUT, Answer, Output

__all__ = ["CostOf"]


@dataclass(frozen=True)
class CostOf:
    """Count params and FLOPs of every exit, in the net's published convention, for one image.

    With a method, training MACs too: the true count, and the paper's Eq 10-14.
    """

    EXAMPLES: ClassVar[str] = """\
  offramp cost --net vgg7 --classes 100
  offramp cost --net vgg7:width=32 --method dfs --beta 0.5
  offramp cost --net msdnet_cifar --method dfs --set own_to_shared=1"""

    net: str
    """one of `offramp nets`, its arguments after a colon: vgg7:width=16"""
    classes: int | None = None
    """number of classes; by default the net's own"""
    method: str | None = None
    """one of `offramp methods`"""
    beta: float | None = None
    """share of the channels that DFS keeps for later exits; the same as --set beta=..."""
    set: Annotated[
        tuple[tuple[str, ...], ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="KEY=VALUE ...")
    ] = ()
    """options of the method"""
    output: Output = OUTPUT

    def run(self) -> Answer:
        """Count."""
        from offramp.cli.net_text import check, parse_net
        from offramp.nets import cost
        from offramp.reports import aligned

        net = check(self.net, self.classes)
        counted = cost(net)
        name, arguments = parse_net(self.net)
        document = {
            "net": name,
            "arguments": arguments,
            "convention": counted.convention,
            "params": counted.params,
            "exits": [{"params": e.params, "flops": e.flops} for e in counted.exits],
        }
        rows = [[str(k), f"{e.params:,}", f"{e.flops:,}"] for k, e in enumerate(counted.exits, start=1)]
        text = aligned(["exit", "params", "FLOPs"], rows)
        image = f"{'x'.join(map(str, net.input_size))} image"
        text += (
            f"\n\n{counted.params:,} params in all; FLOPs for one {image}, counted as {counted.convention}"
        )
        return Answer(document, text)
