"""Measurement of one run: one stream of training batches for all that gradients tell, then the routes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from offramp.analysis._findings import Findings, RouteFindings
from offramp.analysis._subject import Subject, check_split
from offramp.analysis.conflict import Interference
from offramp.analysis.filter_conflict import FilterConflict
from offramp.analysis.filters import shared_owners
from offramp.analysis.gradients import task_gradients
from offramp.analysis.importance import GradientNorms, Importance, route_importance
from offramp.analysis.pairs import PairConflict
from offramp.analysis.prune import Pruning, pruning_matrix
from offramp.analysis.settings import Settings
from offramp.analysis.similarity import common_routes, likeness
from offramp.errors import UserError
from offramp.methods.loops import read_routes
from offramp.modes import measuring
from offramp.runs.files import read_bytes
from offramp.tasks.outputs import are_exits

__all__ = ["measure"]

NULLS = 5  # draws of random gradients
SMALLEST_STEP = 1e-3  # a loss moves by too little for float32 below it


def measure(subject: Subject, settings: Settings, tell: Callable[[str], None]) -> Findings:
    """Measure what the settings ask for; the net is left as it was.

    Raises:
        UserError: The outputs share nothing, or there are no validation images.
    """
    has_routes = "routes" in settings.what and subject.routes_file.is_file()
    if "importance" in settings.what or has_routes:
        check_split(subject, settings.split)
    observers: dict[str, Any] = {}
    if "conflict" in settings.what:
        step = settings.step or max(subject.last_lr, SMALLEST_STEP)
        observers["conflict"] = Interference(subject.net, step=step, unit=settings.unit)
        if not are_exits(subject.net.outputs):
            observers["cosines"] = PairConflict()
    if "filters" in settings.what:
        observers["filters"] = FilterConflict(settings.unit)
    if "importance" in settings.what:
        observers["importance"] = GradientNorms(settings.unit)
    if observers:
        topics = [topic for topic in settings.what if topic in observers]
        tell(f"{subject.folder}: {', '.join(topics)} over {settings.batches} training batches")
        _observe(subject, settings.batches, shared_owners(subject.net), observers.values())

    findings: dict[str, Any] = {}
    if "conflict" in observers:
        findings["interference"] = observers["conflict"].outputs()
    if "cosines" in observers:
        findings["cosines"] = observers["cosines"].cosines()
    if "filters" in observers:
        findings["filters"] = plain = observers["filters"].mean()
        findings["layers"] = tuple(
            name for name, p in subject.net.named_parameters() if name in plain and p.dim() > 1
        )
        if subject.gradients_differ:
            tell(f"{subject.folder}: filters again, by the gradients that its forks let through")
            findings["filters_as_trained"] = _filters_as_trained(subject, settings, plain)
    if "importance" in observers:
        tell(f"{subject.folder}: pruning by gradient norms")
        norms = observers["importance"]
        nulls = [norms.by_chance(seed) for seed in range(NULLS)]
        for key, same_owners in (("pruning", False), ("pruning_same_owners", True)):
            findings[key] = _pruning(
                subject,
                settings,
                norms.importance(same_owners=same_owners),
                [null.importance(same_owners=same_owners) for null in nulls],
            )
    if has_routes:
        tell(f"{subject.folder}: routes")
        findings["routes"] = _routes(subject, settings, tell)
    outputs = tuple(subject.net.outputs)
    return Findings(subject.label, subject.method, subject.folder, outputs, **findings)


def _observe(
    subject: Subject, batches: int, owners: Mapping[str, Sequence[int]], observers: Iterable[Any]
) -> None:
    net = subject.net
    with measuring(net):
        for batch in subject.batches(batches):
            gradients = task_gradients(net, batch, owners=owners)
            for observer in observers:
                observer.add(gradients)


def _filters_as_trained(subject: Subject, settings: Settings, plain: dict[str, Tensor]) -> dict[str, Tensor]:
    """A filter that the forks leave to one output alone has no conflict."""
    observer = FilterConflict(settings.unit)
    with subject.as_trained():
        try:
            owners = shared_owners(subject.net)
        except UserError:
            return {name: values * 0 for name, values in plain.items()}
        _observe(subject, settings.batches, owners, [observer])
    conflicts = observer.mean()
    return {name: conflicts.get(name, values * 0) for name, values in plain.items()}


def _pruning(
    subject: Subject,
    settings: Settings,
    importance: dict[str, Importance],
    nulls: Sequence[dict[str, Importance]] = (),
) -> Pruning:
    return pruning_matrix(
        subject.net,
        importance,
        lambda: subject.metrics(settings.split),
        better=[task.better for task in subject.net.outputs.values()],
        ratio=settings.ratio,
        nulls=nulls,
    )


def _routes(subject: Subject, settings: Settings, tell: Callable[[str], None]) -> RouteFindings:
    read_bytes(subject.routes_file)  # which checks it
    routes = read_routes(subject.routes_file)
    if not routes:
        raise UserError(f"{subject.routes_file} has no route; leave routes out of what to look at")
    outputs = len(subject.net.outputs)
    shapes = {name: tuple(p.shape[:2]) for name, p in subject.net.named_parameters()}
    for name, route in routes.items():
        if shapes.get(name) != tuple(route.importance.shape[1:]) or max(route.owners) >= outputs:
            raise UserError(f"{subject.routes_file} is of another net: it has no such {name}; train anew")
    shared = sum(len(route.owners) == outputs for route in routes.values())
    if not shared:
        tell(f"{subject.folder}: all {outputs} outputs together own no routed parameter, so no similarity")
    drawn = list(routes)[:2][-1]  # the first of them mostly reads the image
    return RouteFindings(
        pruning=_pruning(subject, settings, route_importance(routes)),
        likeness=likeness(common_routes(routes, outputs)) if shared else None,
        without_first=likeness(common_routes(routes, outputs, skip_first=True)) if shared > 1 else None,
        drawn=(drawn, routes[drawn]),
    )
