"""``offramp nets`` and ``offramp methods``: what there is."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import tyro

from offramp.cli._answer import OUTPUT, Answer, OutputFlags

__all__ = ["MethodsCommand", "NetsCommand"]

LEGEND = """\
K exits, F a forward pass, B a backward pass. `offramp methods NAME` tells what a method's options mean.

What a method needs of a step:
  losses    the K losses: one backward pass through a weighted sum of them
  features  what the stages hand on, beside the logits
  rows      the gradient of every loss by itself: K rows, one for each exit
  gramian   the rows' scalar products alone, K x K: a weight for each row follows from them
  junctions the features that heads and the next stage read, and the gradients that meet there
  trunk     the features between the stages, where the backward pass halts to keep the rows apart
  factors   what each loss has been multiplied by
  graph     several backward passes through one forward pass
  epoch     how many epochs are done

Which to try first:
  joint first: one pass, no setting, and what every other method is compared with.
  backbone-then-kd: start here if you train for long. Its passes are joint's; after 100 epochs (results/hunt:
  one net, one set of images) it was above joint at every exit over eight seeds, by 0.8 points on average; the
  three seeds that were kept for last had 0.5, which three do not tell from 0.
  separate beside it, as a yardstick: what each exit reaches where it shares nothing.
  Then dfs, whose passes are joint's; then cagrad or nash-mtl, whose steps took 2.5 to 2.8 of joint's.
  dr-mgf-chained: start here among the methods in stages. An epoch takes 3 of joint's, dr-mgf's K + 1, and in
  results/hunt it was ahead of dr-mgf at equal epochs and at equal passes (one net, one common seed), and
  behind joint at equal passes.
  None promises a gain: in results/methods (vgg7, six exits, few epochs) no method on one shared net gained
  over joint on average over the exits, beyond its spread over the seeds.
  docs/which_method.md says which exits each one favours."""


HEADS = """\
On data with several targets for a whole image, as with --set tasks=class:label,box:box, a network with exits
gets a head for each of them in their place."""


@dataclass(frozen=True)
class NetsCommand:
    """List the networks, their exits or tasks, and the arguments that --net takes after a colon."""

    EXAMPLES: ClassVar[str] = """\
  offramp nets
  offramp nets --json"""

    output: OutputFlags = OUTPUT

    def run(self) -> Answer:
        """Build each without memory for its weights, and describe it."""
        from offramp.nets import NETS
        from offramp.nets.text import sketch
        from offramp.tasks.outputs import are_exits

        document: list[dict[str, Any]] = []
        kinds: dict[str, list[str]] = {"exits": [], "tasks": []}
        for name, builder in NETS.items():
            net = sketch(name)
            arguments = {k: p.default for k, p in inspect.signature(builder).parameters.items()}
            summary = (builder.__doc__ or "").strip().split("\n")[0]
            size = list(net.input_size)
            params = sum(p.numel() for p in net.parameters())
            told = {"exits": len(net.outputs)} if are_exits(net.outputs) else {"tasks": list(net.outputs)}
            document.append(
                {
                    "name": name,
                    **told,
                    "params": params,
                    "input_size": size,
                    "arguments": arguments,
                    "summary": summary,
                }
            )
            has = f"{told['exits']} exits" if "exits" in told else ", ".join(net.outputs)
            kinds["exits" if "exits" in told else "tasks"].append(
                f"{name}: {has}, {params:,} parameters\n    {summary}\n    arguments: {_pairs(arguments)}"
            )
        blocks = [f"Networks with several {kind}:\n\n" + "\n".join(nets) for kind, nets in kinds.items()]
        return Answer(document, "\n\n".join([*blocks, HEADS]))


@dataclass(frozen=True)
class MethodsCommand:
    """List the training methods: what each chooses, needs and costs, and its options with the defaults.

    Of the methods that are named it tells what their options mean.

    Methods that choose on different axes combine: --method dfs+kd. An option may carry the name of its
    method, --set kd.alpha=0.3, and must where two methods have it, as dfs.scales and ge.scales in dfs+ge.
    """

    EXAMPLES: ClassVar[str] = """\
  offramp methods
  offramp methods dfs dfs+kd
  offramp methods --json"""

    names: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[NAME ...]")] = ()
    """methods to tell more about, composed ones too; all, in short"""
    output: OutputFlags = OUTPUT

    def run(self) -> Answer:
        """Describe the methods that are named, or each row of the table."""
        from offramp.cli._method_page import meanings, method_page
        from offramp.methods import METHODS, method
        from offramp.text_table import aligned

        rows = [*map(method, self.names)] or [*METHODS.values()]
        document = [
            {
                "name": m.name,
                "axes": m.axes,
                "needs": sorted(m.needs),
                "passes": str(m.passes),
                "options": m.options,
                "meanings": meanings(m),
                "summary": m.summary,
                "paper": m.paper,
            }
            for m in rows
        ]
        if self.names:
            return Answer(document, "\n\n".join(map(method_page, rows)))
        table = aligned(
            ["method", "chooses", "needs", "passes per step"],
            [
                [m.name, ", ".join(m.axes.values()) or "-", ", ".join(sorted(m.needs)), str(m.passes)]
                for m in rows
            ],
            left=4,
        )
        details = "\n".join(
            f"{m.name}: {m.summary}\n    options: {_pairs(m.options)}\n    paper: {m.paper}" for m in rows
        )
        return Answer(document, f"{table}\n\n{LEGEND}\n\n{details}")


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{k}={v}" for k, v in values.items())
