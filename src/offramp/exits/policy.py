"""A policy: when samples leave a net, and what that was fitted on. It is a small JSON file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from offramp.checks import count_of, is_number, numbers, path_of
from offramp.errors import UserError, guess, shown
from offramp.exits._fingerprint import fingerprint
from offramp.exits._with_exits import check_classifies
from offramp.exits.confidence import CONFIDENCES, Confidence, Ensemble
from offramp.nets import MultiExitNet
from offramp.output_paths import checked_path
from offramp.plain_json import parse_json
from offramp.runs.files import write_file
from offramp.stored_values import check_finite
from offramp.text_file import read_text

__all__ = ["Policy", "Threshold"]

Threshold = float | tuple[float, ...] | None
VERSION = 1  # of the file's format
LONGEST = 2**26  # bytes of a file: thresholds and ensembles of 20,000 classes


@dataclass(frozen=True)
class Policy:
    """When samples leave: each at the first evaluated exit whose confidence reaches the exit's threshold.

    Attributes:
        thresholds: One for each exit but the last: a number, or one for each predicted class; None where the
            exit is not evaluated, so that its head costs nothing.
        confidence: A key of :data:`~offramp.exits.CONFIDENCES`.
        temperatures: What the logits of each of the K exits are divided by (Guo et al., ICML 2017); empty: 1.
        ensemble: The fitted weights, if the confidence is ``ensemble``.
        net: Digest of the weights of the net that it is for; None: any net of as many exits.
        calibration: What it was fitted on and for, as :func:`offramp.calibrate` notes it.

    Raises:
        UserError: A value out of its range.
    """

    thresholds: Sequence[Threshold]
    confidence: str = "max-softmax"
    temperatures: Sequence[float] = ()
    ensemble: Ensemble | None = None
    net: str | None = None
    calibration: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.thresholds, Iterable):
            raise UserError(
                f"thresholds are {shown(self.thresholds)}, must be a list with one for each exit but the last"
            )
        thresholds = tuple(tuple(t) if isinstance(t, (list, tuple)) else t for t in self.thresholds)
        object.__setattr__(self, "thresholds", thresholds)
        if isinstance(self.temperatures, (list, tuple)):
            object.__setattr__(self, "temperatures", tuple(self.temperatures) or (1.0,) * self.num_exits)
        name = self.confidence
        if not isinstance(name, str) or name not in CONFIDENCES:
            raise UserError(
                f"no confidence {shown(name)}{guess(name, CONFIDENCES)}; there are: {', '.join(CONFIDENCES)}"
            )
        for exit, threshold in enumerate(thresholds, start=1):
            values = threshold if isinstance(threshold, tuple) else (threshold,)
            if threshold is not None and not (values and all(map(is_number, values))):
                raise UserError(
                    f"the threshold of exit {exit} is {shown(threshold)}, must be a number, one for each "
                    "class, or None where the exit is not evaluated"
                )
        if not thresholds:
            raise UserError("a policy has a threshold for each exit but the last, this one has none")
        temperatures = numbers(
            self,
            "temperatures",
            f"{self.num_exits} numbers above 0, one for each exit",
            lambda values: len(values) == self.num_exits and min(values) > 0,
        )
        object.__setattr__(self, "temperatures", temperatures)
        if (self.confidence == "ensemble") != (self.ensemble is not None):
            raise UserError("the confidence 'ensemble' and its fitted weights belong together; calibrate")
        self._check_ensemble()
        if len(sizes := self._class_counts()) > 1:
            counts = " and ".join(map(str, sorted(sizes)))
            raise UserError(
                f"thresholds and ensemble are for {counts} classes; give one number for each class of one net"
            )
        if not (self.net is None or isinstance(self.net, str)):
            raise UserError(
                f"net is {shown(self.net)}, must be the digest of a net's weights, or None for any net"
            )
        if not isinstance(self.calibration, Mapping):
            raise UserError(
                f"calibration is {shown(self.calibration)}, must be a mapping: "
                "what the policy was fitted on and for"
            )

    def _check_ensemble(self) -> None:
        if self.ensemble is None:
            return
        if not isinstance(self.ensemble, Ensemble):
            raise UserError(
                f"ensemble is {shown(self.ensemble)}, must be an Ensemble, or in a file its weights and "
                "log_bias"
            )
        if (size := len(self.ensemble.weights)) != self.num_exits:
            raise UserError(
                f"the ensemble has weights of {size} exits, the policy is for {self.num_exits}; "
                "calibrate again"
            )

    def _class_counts(self) -> set[int]:
        """For how many classes the thresholds and log-biases are: none, one, or numbers that disagree."""
        biases = () if self.ensemble is None else self.ensemble.log_bias
        return {len(values) for values in (*self.thresholds, *biases) if isinstance(values, tuple)}

    @property
    def num_exits(self) -> int:
        """How many exits the net has (K)."""
        return len(self.thresholds) + 1

    @property
    def evaluated(self) -> tuple[int, ...]:
        """The numbers of the exits at which samples may leave, the last one always among them."""
        return (*(k for k, t in enumerate(self.thresholds, start=1) if t is not None), self.num_exits)

    @property
    def rule(self) -> Confidence:
        """How logits become confidences."""
        return self.ensemble or CONFIDENCES[self.confidence]()

    @classmethod
    def full(cls, num_exits: int) -> Policy:
        """The policy by which every sample goes to the last exit.

        Raises:
            UserError: There are fewer than two exits.
        """
        count_of("num_exits", num_exits, 2)
        return cls((None,) * (num_exits - 1))

    def check(self, net: MultiExitNet) -> None:
        """Check that the policy is for this net.

        Raises:
            UserError: It is for another, or for other weights, or the net has no exits in a row that tell
                classes apart.
        """
        check_classifies(net)
        if net.num_exits != self.num_exits:
            raise UserError(
                f"the policy is for {self.num_exits} exits, the net has {net.num_exits}; calibrate this net"
            )
        if self.net is not None and self.net != fingerprint(net):
            raise UserError("the policy was calibrated for other weights than this net has; calibrate it")

    def check_classes(self, classes: int) -> None:
        """Check that the policy is for so many classes.

        Args:
            classes: Of the net's logits, ``[n, classes]``.

        Raises:
            UserError: It has thresholds or log-biases for each of another number of classes, or there is but
                one class.
        """
        if others := self._class_counts() - {classes}:
            raise UserError(
                f"the policy is for {others.pop()} classes, the net tells {classes} apart; calibrate this net"
            )
        if classes < 2:
            raise UserError(
                "the net has one class, so that no exit can be unsure; take one that has two or more"
            )

    def save(self, path: str | Path) -> None:
        """Write the policy to a JSON file.

        Raises:
            UserError: It cannot be written.
        """
        write_file(checked_path(path), self.to_json().encode(), then="save it again")

    def to_json(self) -> str:
        """The text of the policy's file."""
        content = {"offramp_policy": VERSION, **dataclasses.asdict(self)}
        return f"{json.dumps(content, indent=2, allow_nan=False)}\n"

    @classmethod
    def open(cls, path: str | Path) -> Policy:
        """Read a policy from its file.

        Raises:
            UserError: No such file, or it is no policy.
        """
        path = path_of("path", path, "a policy that calibration wrote")
        text = read_text(path, "the policy", "give the file that calibration wrote", LONGEST)
        try:
            content = parse_json(text.encode())
            check_finite(content, "the policy")
        except ValueError as error:
            raise UserError(f"{path} is no JSON file ({error}); calibrate again") from error
        version = content.pop("offramp_policy", None) if isinstance(content, dict) else None
        if version != VERSION:
            found = "no policy" if version is None else f"a policy of format {shown(version)}, not {VERSION}"
            raise UserError(f"{path} is {found}; give the file that calibration wrote, or calibrate again")
        fields = {each.name for each in dataclasses.fields(cls)}
        if unknown := content.keys() - fields:
            raise UserError(f"{path}: a policy has no {shown(min(unknown))}{guess(min(unknown), fields)}")
        if "thresholds" not in content or not isinstance(content["thresholds"], list):
            raise UserError(f"{path}: thresholds are a list, one for each exit but the last; calibrate again")
        try:
            fitted = content.get("ensemble")
            if isinstance(fitted, dict) and fitted.keys() == {"weights", "log_bias"}:
                content["ensemble"] = Ensemble(**fitted)
            return cls(**content)
        except (UserError, TypeError) as error:
            raise UserError(f"{path}: {error}") from error
