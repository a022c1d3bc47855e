"""The weights that a training starts from, given beside the net."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from offramp.errors import UserError
from offramp.nets import Net
from offramp.runs import checkpoint
from offramp.runs.pretrained import put_pretrained
from offramp.runs.weight_files import WeightFile, read_weights

__all__ = ["give_weights"]


def give_weights(
    net: Net, given: WeightFile | None, folder: Path | None, before: dict[str, Any] | None, *, finished: bool
) -> tuple[dict[str, Any], list[str]]:
    """Give the net the weights that its training starts from, unless it is past its start.

    Args:
        net: The net.
        given: The weights; None: those that the run to resume began with, or the net's own.
        folder: The run folder.
        before: The content of ``run.json`` of the run to resume; None starts one.
        finished: Whether that run is done.

    Returns:
        What ``run.json`` notes of them, and lines to say.

    Raises:
        UserError: They do not fit the net, or the run began with others.
    """
    if before is None:
        if given is None:
            return {}, []
        found = put_pretrained(net, given)
        return {"init": found.to_json()}, found.notes
    noted = before.get("init")
    if noted is None:
        if given is not None:
            raise UserError(
                f"{folder} holds a run that began with the net's own weights; leave init out, or choose "
                "another folder"
            )
        return {}, []
    assert folder is not None
    if given is not None:
        _check_same(given, noted, f"{folder} holds a run that began with other weights", "leave init out")
    if not finished and checkpoint.last(folder) is None:  # it was killed before it kept any
        if given is None:
            given = read_weights(noted["source"])
            _check_same(given, noted, f"{folder} kept no weights before it ended", "put the file back")
        put_pretrained(net, given)
    return {"init": noted}, []


def _check_same(given: WeightFile, noted: dict[str, Any], trouble: str, remedy: str) -> None:
    """Check that weights are those that a run noted.

    Raises:
        UserError: They are not.
    """
    if given.digest != noted["digest"]:
        raise UserError(
            f"{trouble}, those of {noted['source']} with SHA-256 {noted['digest'][:12]}, and {given.source} "
            f"has {given.digest[:12]}; {remedy}, or choose another folder"
        )
