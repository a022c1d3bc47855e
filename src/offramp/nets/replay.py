"""Cut a backbone whose forward torch.fx cannot trace: each stage runs that forward with its own part of it.

A stage holds a copy of the modules around the cuts (the holders), where every module they call is a gate.
The forward of the copy runs from its start: gates of what ran before the last cut return what the feature
carries, those of the stage run their module, and at its own cut the stage stops. So only the Python between
the modules runs again, for batches of any size and whatever it does.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from offramp.errors import UserError
from offramp.nets.outputs import logits_of
from offramp.unchanged import unchanged

__all__ = ["ReplayStage", "call_with", "replay_stages"]

Key = tuple[str, int]  # a module's name, and how often it had been called before


@dataclass(frozen=True)
class Call:
    """A call of a module by a holder: which, and the structure of what it returned."""

    key: Key
    leaves: list[Any]
    spec: pytree.TreeSpec
    written: bool = False  # in place, by what ran later

    def __deepcopy__(self, memo: Any) -> Call:
        return self  # nothing in it changes

    def tensors(self) -> list[Tensor]:
        """The Tensors that it returned."""
        return [leaf for leaf in self.leaves if isinstance(leaf, Tensor)]

    def filled(self, tensors: Sequence[Tensor]) -> Any:
        """What it returned, with other Tensors."""
        rest = iter(tensors)
        leaves = [next(rest) if isinstance(leaf, Tensor) else leaf for leaf in self.leaves]
        return pytree.tree_unflatten(leaves, self.spec)


@dataclass
class Recording:
    """One forward pass of a backbone: the calls by its holders in order, and what it returned."""

    calls: list[Call] = field(default_factory=list)
    linears: list[tuple[str, Any]] = field(default_factory=list)
    output: Any = None

    def final(self) -> str | None:
        """The Linear layer whose output is that of the backbone, if it runs once."""
        logits = logits_of(self.output)
        made = [name for name, output in self.linears if output is logits]
        runs = [name for name, _ in self.linears]
        return made[0] if len(made) == 1 and runs.count(made[0]) == 1 else None


class _Reached(BaseException):
    """The stage's cut has been reached; no error, so that no ``except Exception`` of a forward sees it."""


class _Gate(nn.Module):
    """Stands for a module that a holder calls."""

    def __init__(self, name: str, module: nn.Module, *, runs: bool) -> None:
        super().__init__()
        self.name = name
        self.inner = module if runs else None
        self.original = (module,)  # not registered: its attributes are readable, its parameters elsewhere
        self.calls = 0
        self.answers: dict[int, Any] = {}
        self.results: list[Any] = []
        self.stop: str | None = None
        self.written = False

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "original" or name.startswith("__"):
                raise
            return getattr(self.original[0], name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        number, self.calls = self.calls, self.calls + 1
        if number in self.answers:
            return self.answers[number]
        if self.stop == "before":
            self.results.append(args[0] if args else kwargs["input"])
            raise _Reached
        if self.inner is None:
            raise UserError(
                f"module '{self.name}' runs elsewhere or more often than when the net was made; cut elsewhere"
            )
        value = self.inner(*args, **kwargs)
        self.results.append(_copied(value) if self.written and self.stop is None else value)
        if self.stop == "after":
            raise _Reached
        return value


class ReplayStage(nn.Module):
    """What a backbone runs between two cuts.

    Args:
        backbone: The whole.
        holders: The names of its modules whose forward is run anew; all that they call are gates.
        before: The calls that ran before the last cut, whose results the feature carries.
        own: The calls up to this stage's cut.
        inputs: The structure of the backbone's input.
        needed: For every Tensor of ``before`` and ``own`` but the cut's, whether later stages read it.
        stop: The last call of ``own``; None in the last stage.
        final: The last layer, whose input the last stage returns; without it the backbone's logits.
    """

    def __init__(
        self,
        backbone: nn.Module,
        holders: set[str],
        before: Sequence[Call],
        own: Sequence[Call],
        *,
        inputs: pytree.TreeSpec,
        needed: Sequence[bool],
        stop: Key | None,
        final: str | None,
    ) -> None:
        super().__init__()
        self.before, self.own, self.needed = [*before], [*own], [*needed]
        self.inputs = Call(("", 0), [], inputs)
        runs = {call.key[0] for call in own} if stop else None
        answered = {call.key[0] for call in before}
        self.backbone = _skeleton(backbone, "", holders, runs, answered, final)
        gates = self._gates()
        for call in own:
            gates[call.key[0]].written |= call.written
        if stop is not None:
            gates[stop[0]].stop = "after"
        elif final is not None:
            gates[final].stop = "before"
        self.stop, self.final = stop, final

    def _gates(self) -> dict[str, _Gate]:
        return {module.name: module for module in self.backbone.modules() if isinstance(module, _Gate)}

    def forward(self, feature: Any) -> Any:  # noqa: D102
        gates = self._gates()
        inputs, carried = feature, []
        if self.before:
            first = self.inputs.spec.num_leaves
            inputs, carried = pytree.tree_unflatten(feature[:first], self.inputs.spec), [*feature[first:]]
        rest = iter(carried)
        for call in self.before:
            name, number = call.key
            answer = call.filled([next(rest) for _ in call.tensors()])
            gates[name].answers[number] = _copied(answer) if call.written else answer
        try:
            try:
                output = call_with(self.backbone, inputs)
            except _Reached:
                output = None
            if self.stop is None:
                return gates[self.final].results[-1] if self.final else logits_of(output)
            if output is not None:
                raise UserError(f"'{self.stop[0]}' never runs on this input, so that its exit has none")
            made = []
            for call in self.own:
                name, number = call.key
                number -= len(gates[name].answers)
                made += [t for t in pytree.tree_leaves(gates[name].results[number]) if isinstance(t, Tensor)]
            tensors = [
                tensor if needed else tensor.new_zeros(()).expand(tensor.shape)
                for tensor, needed in zip([*carried, *made[:-1]], self.needed, strict=True)
            ]
            return (*pytree.tree_leaves(inputs), *tensors, made[-1])
        finally:
            for gate in gates.values():
                gate.calls, gate.answers, gate.results = 0, {}, []


def call_with(model: nn.Module, inputs: Any) -> Any:
    """``model`` called with one input, with a tuple of them, or with a dict of named ones."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def _skeleton(
    module: nn.Module,
    name: str,
    holders: set[str],
    runs: set[str] | None,
    answered: set[str],
    final: str | None,
) -> nn.Module:
    """A copy of a holder, with its parameters, whose children are copies of holders or gates."""
    twin = copy.copy(module)
    for store in ("_parameters", "_buffers"):
        vars(twin)[store] = vars(module)[store].copy()
    for store in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"):
        vars(twin)[store] = type(vars(module)[store])()
    children: dict[str, nn.Module | None] = {}
    for child, inner in module._modules.items():
        path = f"{name}.{child}" if name else child
        if inner is None:
            children[child] = None
        elif path in holders:
            children[child] = _skeleton(inner, path, holders, runs, answered, final)
        elif isinstance(inner, nn.Identity) and path not in (runs or ()):
            children[child] = inner  # nothing to skip, and forwards ask whether it is one
        else:
            run = path != final and (path in runs if runs is not None else path not in answered)
            children[child] = _Gate(path, inner, runs=run)
    vars(twin)["_modules"] = children
    return twin


def _copied(value: Any) -> Any:
    return pytree.tree_map_only(Tensor, torch.clone, value)


def record(backbone: nn.Module, holders: set[str], inputs: Any) -> Recording:
    """Run the backbone and note what its holders call."""
    recording = Recording()
    counts: Counter[str] = Counter()
    versions: list[list[tuple[Tensor, int]]] = []

    def note(name: str, output: Any) -> None:
        leaves, spec = pytree.tree_flatten(output)
        for leaf in leaves:
            if not isinstance(leaf, (Tensor, int, float, str, type(None))):
                raise UserError(
                    f"module '{name}' returns a {type(leaf).__name__}, and it runs beside a cut inside code "
                    "that torch.fx cannot trace; cut elsewhere"
                )
        versions.append([(leaf, leaf._version) for leaf in leaves if isinstance(leaf, Tensor)])
        recording.calls.append(Call((name, counts[name]), _copied(leaves), spec))
        counts[name] += 1

    handles = []
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Linear):
            handles.append(
                module.register_forward_hook(
                    lambda m, a, out, name=name: recording.linears.append((name, out))
                )
            )
        if name not in holders and name.rpartition(".")[0] in holders:
            handles.append(module.register_forward_hook(lambda m, a, out, name=name: note(name, out)))
    try:
        recording.output = call_with(backbone, inputs)
    finally:
        for handle in handles:
            handle.remove()
    written = [any(tensor._version > before for tensor, before in call) for call in versions]
    recording.calls = [replace(call, written=w) for call, w in zip(recording.calls, written, strict=True)]
    return recording


def replay_stages(
    backbone: nn.Module, names: Sequence[str], inputs: Any
) -> tuple[list[ReplayStage], list[Tensor], nn.Module | None]:
    """Cut ``backbone`` after the modules ``names``.

    Args:
        backbone: In eval mode; run it under :func:`~offramp.unchanged.unchanged`, since it gets hooks here.
        names: The modules, in any order.
        inputs: An input for it.

    Returns:
        The stages, what each cut module returned, and the last Linear layer, which the last stage leaves out.

    Raises:
        UserError: A cut module does not run exactly once, in this order, and return a Tensor.
    """
    holders = _holders(backbone, names)
    with unchanged(backbone), torch.no_grad():
        final = record(backbone.eval(), holders, inputs).final()
    if final in names or (final and any(name.startswith(final + ".") for name in names)):
        final = None
    if final:
        holders |= _holders(backbone, [final])
    with unchanged(backbone), torch.no_grad():
        recording = record(backbone.eval(), holders, inputs)
        keys = [call.key for call in recording.calls]
        ends = _ends(names, recording)
        leaves, spec = pytree.tree_flatten(inputs)
        calls = [replace(call, leaves=_emptied(call.leaves)) for call in recording.calls]
        stages = []
        needed: list[bool] = []
        for start, end in zip([0, *ends], [*ends, None], strict=True):
            stop = None if end is None else keys[end - 1]
            if end is not None:
                needed = _needed(backbone, holders, recording, end, leaves, spec)
            own = calls[start:end]
            stages.append(
                ReplayStage(
                    backbone,
                    holders,
                    calls[:start],
                    own,
                    inputs=spec,
                    needed=needed if stop else [],
                    stop=stop,
                    final=None if stop else final,
                )
            )
    outputs = [recording.calls[end - 1].tensors()[0] for end in ends]
    return stages, outputs, backbone.get_submodule(final) if final else None


def _holders(backbone: nn.Module, names: Sequence[str]) -> set[str]:
    """The modules around ``names``, and the lists of modules in them, which are never called themselves."""
    found = {""}
    for name in names:
        atoms = name.split(".")
        found |= {".".join(atoms[:depth]) for depth in range(1, len(atoms))}
    for name, module in backbone.named_modules():
        if name.rpartition(".")[0] in found and isinstance(module, (nn.ModuleList, nn.ModuleDict)):
            found.add(name)
    return found


def _ends(names: Sequence[str], recording: Recording) -> list[int]:
    ends = []
    keys = [name for call in recording.calls for name in [call.key[0]]]
    for name in names:
        if keys.count(name) != 1:
            times = f"runs {keys.count(name)} times" if name in keys else "never runs"
            raise UserError(
                f"module '{name}' {times} in the forward pass; cut after a module that runs exactly once"
            )
        call = recording.calls[keys.index(name)]
        if len(call.leaves) != 1 or not call.tensors():
            kind = type(pytree.tree_unflatten(call.leaves, call.spec)).__name__
            raise UserError(f"module '{name}' returns a {kind}, not a float Tensor; cut after one that does")
        ends.append(keys.index(name) + 1)
    if ends != sorted(ends):
        ran = [name for _, name in sorted(zip(ends, names, strict=True))]
        first = next(b for a, b in pairwise(names) if keys.index(b) < keys.index(a))
        raise UserError(f"'{first}' is named too late; give the modules as they run: at={ran}")
    return ends


def _emptied(leaves: list[Any]) -> list[Any]:
    return [torch.empty(0) if isinstance(leaf, Tensor) else leaf for leaf in leaves]


def _needed(
    backbone: nn.Module,
    holders: set[str],
    recording: Recording,
    end: int,
    leaves: list[Any],
    spec: pytree.TreeSpec,
) -> list[bool]:
    """Whether the logits change if a Tensor made before a cut is lost, for each but the cut's own."""
    before, own = recording.calls[:end], recording.calls[end:]
    rest = ReplayStage(backbone, holders, before, own, inputs=spec, needed=[], stop=None, final=None)
    tensors = [tensor for call in before for tensor in call.tensors()]
    whole = logits_of(recording.output)

    def changes(lost: set[int]) -> bool:
        kept = [torch.full_like(t, torch.nan) if i in lost else t.clone() for i, t in enumerate(tensors)]
        try:
            return not torch.equal(rest((*leaves, *kept)), whole)
        except Exception as error:  # whatever a forward raises when its modules are not of their class
            raise UserError(
                f"{type(backbone).__name__} cannot be cut after '{recording.calls[end - 1].key[0]}': "
                f"torch.fx cannot trace it, and run anew from there it fails "
                f"({str(error).strip().splitlines()[0]}); "
                "cut elsewhere, or write its stages yourself as MultiExitNet(stages, heads)"
            ) from error

    floats = {i for i, t in enumerate(tensors[:-1]) if t.is_floating_point()}
    if not changes(floats):
        return [i not in floats for i in range(len(tensors) - 1)]
    return [i not in floats or changes({i}) for i in range(len(tensors) - 1)]
