"""How an exit's logits are read: the confidence, with temperatures and ensemble weights that are fitted."""

from __future__ import annotations

from dataclasses import dataclass, replace

from offramp.exits.calibration._ensembling import fit_ensemble
from offramp.exits.calibration._temperature import fit_temperatures
from offramp.exits.exit_logits import ExitLogits
from offramp.exits.policy import Policy

__all__ = ["Reader"]


@dataclass(frozen=True)
class Reader:
    """What is to be fitted, before there are thresholds.

    Attributes:
        confidence: A key of :data:`~offramp.exits.CONFIDENCES`.
        temperatures: Whether these are fitted; or else they are 1.
    """

    confidence: str = "max-softmax"
    temperatures: bool = False

    def fit(self, recorded: ExitLogits) -> Policy:
        """A policy by which nobody leaves yet, and which says how confidences are read."""
        ones = (1.0,) * recorded.num_exits
        temperatures = fit_temperatures(recorded) if self.temperatures else ones
        ensemble = fit_ensemble(recorded, temperatures) if self.confidence == "ensemble" else None
        return Policy((None,) * (recorded.num_exits - 1), self.confidence, temperatures, ensemble)

    def full(self, recorded: ExitLogits) -> Policy:
        """The policy by which nobody leaves early, so that answers are those of the full network.

        An ensemble may predict otherwise, and is left out.
        """
        reader = replace(self, confidence="max-softmax") if self.confidence == "ensemble" else self
        return reader.fit(recorded)
