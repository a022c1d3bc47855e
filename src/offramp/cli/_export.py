"""``offramp export``: the net of a finished run as a folder that leaves early without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import tyro

from offramp.cli._answer import OUTPUT, Answer, OutputFlags
from offramp.cli._net import net_of
from offramp.errors import UserError

__all__ = ["ExportCommand"]


@dataclass(frozen=True, kw_only=True)
class ExportCommand:
    """Write a bundle: the net of a run, in which images leave early, for any ONNX runtime.

    Give exactly one of --policy, --budget and --risk, which say when images leave. The bundle has one graph
    with thresholds as an input, a graph for each exit, the policy, the names of the classes, a model card and
    checksums; images come as levels 0 ... 255, and are normalised in the graph.
    """

    EXAMPLES: ClassVar[str] = """\
  offramp export runs/dfs --budget 50% --out bundle
  offramp export runs/dfs --risk 0.01 --out bundle
  offramp export runs/dfs --budget 50% --precision int8 --out bundle
  offramp export runs/dfs --policy policy.json --out bundle
  offramp export runs/dfs --budget 50% --layout triton --out models"""

    run_folder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """folder that `offramp train` wrote"""
    out: str
    """folder to write, which is not there yet"""
    policy: str | None = None
    """when images leave: a file that `offramp calibrate` wrote"""
    budget: str | None = None
    """fit one to mean operations of an image: 170M, 1.2G, or a share of the static network, 50%"""
    risk: float | None = None
    """fit one to a risk: the probability that the full network is right and the answer is wrong"""
    precision: Literal["fp32", "int8"] = "fp32"
    """int8: weights and activations in 8 bits, thresholds fitted anew on what the exits say then"""
    net: str | None = None
    """your own network again, as for train; code that a run folder names is never run without this flag"""
    layout: Literal["bundle", "triton"] = "bundle"
    """triton: a model repository for that server, in place of a bundle"""
    averaged: bool = False
    """take the moving average of the weights, where the run has kept one"""
    output: OutputFlags = OUTPUT

    def run(self) -> Answer:
        """Fit the policy if none is given, and write the bundle."""
        from offramp.bundles import export, export_repository
        from offramp.exits import Policy, calibrate
        from offramp.output_paths import new_path
        from offramp.reports.policy_text import policy_document, policy_text
        from offramp.runs import Run

        given = [name for name in ("policy", "budget", "risk") if getattr(self, name) is not None]
        if len(given) != 1:
            have = " and ".join(f"--{name}" for name in given) or "none"
            raise UserError(f"say when images leave by one of --policy, --budget and --risk, got {have}")
        out = new_path(self.out, "--out")
        policy = None if self.policy is None else Policy.open(self.policy)
        run = Run.open(self.run_folder, net_of([self.run_folder], self.net), averaged=self.averaged)
        if policy is None:
            policy = calibrate(run, budget=self.budget, risk=self.risk)
        if self.layout == "triton":
            noun, parts = "repository", "models"
            names = export_repository(run, policy, out, precision=self.precision)
            written = out / names[0] / "policy.json"
        else:
            noun, parts = "bundle", "files"
            names = sorted(path.name for path in export(run, policy, out, precision=self.precision).iterdir())
            written = out / "policy.json"
        policy = Policy.open(written)  # that of 8 bits is another
        document: dict[str, Any] = {
            "run": self.run_folder, noun: self.out, parts: names, **policy_document(policy),
        }  # fmt: skip
        return Answer(document, f"{policy_text(policy)}\n\n{noun}: {out} ({', '.join(names)})")
