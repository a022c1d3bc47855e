"""Whether a split has what its data set says, also where both are made by hand."""

from __future__ import annotations

from collections.abc import Mapping

from offramp.data._tensor_checks import check_values
from offramp.data.batches import Batches
from offramp.data.class_names import check_name
from offramp.data.target_tensors import TargetTensors
from offramp.data.targets import Target
from offramp.errors import UserError, an_object, shown

__all__ = ["check_lengths", "check_split", "check_targets"]


def check_lengths(split: Batches, where: str) -> None:
    """Check that a split has a target for each of its samples, under every key.

    Raises:
        UserError: It has more or fewer.
    """
    for key, target in split.targets.items():
        if len(target) != len(split):
            raise UserError(
                f"{where} has {len(split)} samples and {len(target)} of target {shown(key)}; give as many"
            )


def check_targets(targets: object) -> None:
    """Check what a set says of its targets.

    Raises:
        UserError: They are no mapping from keys to :class:`~offramp.data.Target`, or one lacks its classes.
    """
    if not isinstance(targets, Mapping) or not targets:
        raise UserError(f"targets are {shown(targets)}, must be a mapping {{key: Target(kind, ...)}}")
    for key, target in targets.items():
        if not isinstance(key, str) or not isinstance(target, Target):
            raise UserError(f"targets have {shown(key)}: {shown(target)}, must be a text and a Target")
        check_name(key, "a target")
        if target.size < 1:
            raise UserError(
                f"target {shown(key)} has no {target.kind} to tell; give Target({shown(target.kind)}, names)"
            )


def check_split(split: object, targets: Mapping[str, Target], where: str, *, may_be_empty: bool) -> None:
    """Check that a split has samples, and that those of its targets that are in memory are as is said.

    Args:
        split: The split.
        targets: What the set says of its targets.
        where: Its name in errors.
        may_be_empty: Whether it may have none.

    Raises:
        UserError: It is no split, empty, or a target is missing, of another kind or out of range.
    """
    if not isinstance(split, Batches):
        raise UserError(f"{where} is {an_object(split)}; give a Split, or open a set by open_data")
    if not may_be_empty and not len(split):
        raise UserError(f"{where} is empty; give it samples")
    if not isinstance(split.targets, TargetTensors):  # checked as they are read
        return
    check_lengths(split, where)
    for key, target in targets.items():
        if key not in split.targets:
            raise UserError(
                f"{where} has no target {shown(key)}; give it, or leave it out of the set's targets"
            )
        if (kind := split.targets.kinds[key].kind) != target.kind:
            raise UserError(
                f"{where} has {shown(key)} of kind {kind}, and its set says {target.kind}; give one of them"
            )
        check_values(f"{where}, target {shown(key)}", split.targets[key], target)
    if not may_be_empty and not any(of.present(split.targets[key]).any() for key, of in targets.items()):
        raise UserError(f"{where} has no sample with a target; label some")
