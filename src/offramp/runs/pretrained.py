"""Weights to start a training from: of a finished run, or of a file, matched to a net by name and shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from offramp.errors import UserError
from offramp.nets import Net
from offramp.nets.head_states import head_states
from offramp.nets.net import check_net
from offramp.nets.values import check_values
from offramp.runs._matching import matched
from offramp.runs.weight_files import WeightFile, read_weights
from offramp.runs.weights import check_values_of, put_weights
from offramp.say import say

__all__ = ["Pretrained", "load_pretrained", "put_pretrained"]


@dataclass(frozen=True)
class Pretrained:
    """Where a net's weights were loaded from, and which were not found there.

    Attributes:
        source: The run folder or file, by its full path.
        digest: SHA-256 of the file of weights.
        as_initialised: Heads that the source lacks, or has for other outputs; they were left as they were.
        unused: What the source has and the net has not, by its names there.
    """

    source: str
    digest: str
    as_initialised: tuple[str, ...]
    unused: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """What ``run.json`` notes."""
        return {key: [*value] if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @property
    def notes(self) -> list[str]:
        """Remarks, a line each; empty if the source has exactly the net's weights."""
        lines = []
        if self.as_initialised:
            lines.append(
                f"as initialised, since {self.source} has none that fit: {_few(self.as_initialised)}"
            )
        if self.unused:
            lines.append(f"in {self.source} and not in the net: {_few(self.unused)}")
        return lines


def load_pretrained(net: Net, init: str | Path) -> Pretrained:
    """Load the weights of a finished run or a file into a net, and say which were not found there.

    Weights are matched by name and shape, under the names that they have in the net or, of a net made by
    :func:`offramp.attach` or :func:`offramp.multi_task`, in the backbone: its own file of torchvision, timm
    or transformers fits. A prefix of a wrapper such as ``module.`` is found and left out, and floats are cast
    to the net's precision. A head that the source lacks, or has for another number of classes, stays as it
    is.

    Args:
        net: The net, which keeps its device, precision and modes.
        init: Folder of a finished run; a ``.safetensors`` file; or a file that ``torch.save`` wrote, with a
            ``state_dict`` or with one among plain values under a usual name such as ``state_dict`` or
            ``model``. No code in it is run.

    Raises:
        UserError: The source cannot be read, is damaged or not finished; anything but a head is missing there
            or of another shape, or nothing of it fits; or a weight is not finite. The net is left as it was.
    """
    check_net(net, "net")
    check_values(net)
    found = put_pretrained(net, read_weights(init))
    for line in found.notes:
        say(line)
    return found


def put_pretrained(net: Net, weights: WeightFile) -> Pretrained:
    """Give a net the weights that were read; see :func:`load_pretrained`.

    Raises:
        UserError: They do not fit; the net is left as it was.
    """
    state = {name: value for name, value in net.state_dict().items() if isinstance(value, Tensor)}
    try:
        keys = matched(state, getattr(net, "other_names", {}), weights.tensors)
    except UserError as error:
        raise UserError(f"{weights.source}: {error}") from None
    values, trouble = {}, {}
    for name, own in state.items():
        value = weights.tensors[keys[name]] if name in keys else None
        if value is None and name.endswith("num_batches_tracked"):  # which files of old torch lack
            continue
        if value is None:
            trouble[name] = "missing"
        elif (problem := _misfit(value, own)) is not None:
            trouble[name] = problem
        else:
            values[name] = value.to(own.dtype)
    left = _heads_left(net, trouble)
    as_they_were = {name for names in left.values() for name in names}
    values = {name: value for name, value in values.items() if name not in as_they_were}
    _check_rest(trouble, [*state], weights, as_they_were if values else set())
    check_values_of(net, values, Path(weights.source), "give weights that are numbers")
    put_weights(net, values)
    known = {*keys.values()}
    unused = tuple(key for key in weights.tensors if key not in known)
    return Pretrained(weights.source, weights.digest, (*left,), unused)


def _misfit(value: Tensor, own: Tensor) -> str | None:
    """Why a stored value cannot be that of a net's tensor, if so."""
    if value.shape != own.shape:
        return f"{[*value.shape]}, not {[*own.shape]}"
    kinds = [(t.is_floating_point(), t.is_complex(), t.layout, t.is_quantized) for t in (value, own)]
    return None if kinds[0] == kinds[1] else f"{value.dtype}, not {own.dtype}"


def _heads_left(net: Net, trouble: Mapping[str, str]) -> dict[str, list[str]]:
    """The heads that stay as they are, since something of them is missing or does not fit."""
    if not trouble:
        return {}
    return {place: names for place, names in head_states(net).items() if trouble.keys() & {*names}}


def _check_rest(
    trouble: Mapping[str, str], state: Sequence[str], weights: WeightFile, heads: set[str]
) -> None:
    """Refuse weights that lack more than heads.

    Raises:
        UserError: They do.
    """
    rest = {name: problem for name, problem in trouble.items() if name not in heads}
    missing = [name for name, problem in rest.items() if problem == "missing"]
    others = [f"{name} ({problem})" for name, problem in rest.items() if problem != "missing"]
    if not rest:
        return
    of = f"of the net's {len(state)} weights"
    faults = [f"{len(missing)} {of} are missing: {_few(missing)}"] * bool(missing)
    faults += [f"{len(others)} {of} have another shape or kind: {_few(others)}"] * bool(others)
    raise UserError(
        f"{weights.source} is of another network, whose weights are {_few([*weights.tensors])}: "
        f"{'; '.join(faults)}; give weights of this net, or of the backbone that it was made of"
    )


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 4 else ""
    return ", ".join(names[: 3 if more else 4]) + more
