"""Whether a run's validation samples may have chosen its learning rate, which makes promises on them void."""

from __future__ import annotations

from typing import Any

from offramp.errors import UserError
from offramp.exits.exit_logits import ExitLogits
from offramp.runs import Run
from offramp.runs.record import is_run, read_record
from offramp.say import say

__all__ = ["check_untouched"]


def check_untouched(recorded: ExitLogits, run: Run | None) -> None:
    """Check that the samples have chosen nothing about the net; say what cannot be known.

    Raises:
        UserError: They trained it, or they are the validation samples by which a run's rate may be chosen.
    """
    origin = recorded.origin
    if origin is None:
        return
    if origin.split == "train":
        raise UserError(
            f"the net has learned the training samples of {origin.data}, which cannot test a risk; "
            "give held-out samples, e.g. data.val"
        )
    if run is None:
        say(
            f"the risk is tested on the validation samples of {origin.data}; where these have chosen a rate "
            "or an epoch of this net, the promise is void"
        )
    if run is None or origin.data != run.record["data"]["name"]:
        return
    rates = _rates_tried(run)
    if len(rates) > 1:
        raise UserError(
            f"the validation samples may have chosen the learning rate ({', '.join(f'{r:g}' for r in rates)} "
            f"were tried beside {run.folder}), so that they cannot test a risk; give other held-out samples"
        )


def _rates_tried(run: Run) -> list[float]:
    """The learning rates of the runs beside this one that are the same but for it, as a sweep leaves them.

    Returns:
        All of them in order, the run's own among them; one if nothing was tried.
    """
    rates = {run.recipe.lr}
    if run.folder is not None:
        for folder in run.folder.resolve().parent.iterdir():
            try:
                record = read_record(folder) if is_run(folder) else None
            except UserError:  # damaged; others tell
                continue
            if record is not None and _but_for_the_rate(record) == _but_for_the_rate(run.record):
                rates.add(float(record["recipe"]["lr"]))
    return sorted(rates)


def _but_for_the_rate(record: dict[str, Any]) -> dict[str, Any]:
    recipe = {k: v for k, v in record["recipe"].items() if k not in ("lr", "checkpoint_every")}
    data = {k: v for k, v in record["data"].items() if k != "source"}
    return {"recipe": recipe, "data": data, **{key: record[key] for key in ("net", "method", "options")}}
