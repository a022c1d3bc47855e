"""``offramp nets`` and ``offramp methods``: what there is."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from offramp.cli.answer import OUTPUT, Answer, Output

__all__ = ["Methods", "Nets"]


@dataclass(frozen=True)
class Nets:
    """List the networks, their exits and the arguments that --net takes after a colon."""

    EXAMPLES: ClassVar[str] = """\
  offramp nets
  offramp nets --json"""

    output: Output = OUTPUT

    def run(self) -> Answer:
        """Build each without memory for its weights, and describe it."""
        from offramp.cli.net_text import check
        from offramp.nets import NETS

        document, blocks = [], []
        for name, builder in NETS.items():
            net = check(name)
            arguments = {k: p.default for k, p in inspect.signature(builder).parameters.items()}
            summary = (builder.__doc__ or "").strip().split("\n")[0]
            size = list(net.input_size)
            document.append(
                {
                    "name": name,
                    "exits": net.num_exits,
                    "input_size": size,
                    "arguments": arguments,
                    "summary": summary,
                }
            )
            blocks.append(f"{name}: {net.num_exits} exits\n    {summary}\n    arguments: {_pairs(arguments)}")
        return Answer(document, "\n".join(blocks))


@dataclass(frozen=True)
class Methods:
    """List the training methods, and their options with the defaults."""

    EXAMPLES: ClassVar[str] = """\
  offramp methods
  offramp methods --json"""

    output: Output = OUTPUT

    def run(self) -> Answer:
        """Describe each row of the table of methods."""
        from offramp.methods import METHODS

        rows = METHODS.values()
        document = [
            {"name": m.name, "summary": m.summary, "paper": m.paper, "options": m.options} for m in rows
        ]
        blocks = [
            f"{m.name}\n    {m.summary} ({m.paper})\n    options: {_pairs(m.options) or 'none'}" for m in rows
        ]
        return Answer(document, "\n".join(blocks))


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{k}={v}" for k, v in values.items())
