"""Leaving early on the device: the routers against all exits computed and the first sure one picked."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from _clock import Clock
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from _gpu.finding import Cases, Finding, Where
from _gpu.small import SIZE, small_net
from offramp.exits import PathCosts, Policy, Router, StreamingRouter
from offramp.exits._compiled import bucket
from offramp.nets import MultiExitNet

__all__ = ["Answers", "by_hand", "host_waits", "leaving", "leaving_compiled", "policy_for", "routed"]

EVALUATED = (2, 4, 5)  # and the last, 6
SIZES = (1, 7, 64, 256)
STAYING = {"none": 0.0, "one": None, "half": 0.5, "all": 1.0}  # of the samples, behind each exit
# An exit in bfloat16 says 8 bits of a confidence; a sample near a threshold may go either way.
WRONG = {"float32": 0.0, "bfloat16": 0.1}
WAIT = "called a synchronizing CUDA operation"  # what torch says of each
CONFIDENCE = {"float32": 1e-4, "bfloat16": 0.1}


class Answers(NamedTuple):
    """Prediction, exit and confidence of each sample."""

    prediction: Tensor
    exit: Tensor
    confidence: Tensor


def leaving(where: Where) -> Cases:
    """The router on batches of several sizes of which none, one, half or all stay; singles; and deadlines."""
    hows = {
        "float32": lambda net: net,
        "bfloat16": lambda net: net.bfloat16(),
        "channels_last": lambda net: net.to(memory_format=torch.channels_last),
    }
    cases: dict[str, Callable[[], Mapping[str, Finding]]] = {}
    for how, change in hows.items():
        for size in SIZES[:3] if where.small else SIZES:
            cases[f"{how}, batch {size}"] = functools.partial(_batch, how, change, size, where.device)
    cases["streaming"] = functools.partial(_streaming, where.device)
    cases["anytime"] = functools.partial(_anytime, where.device)
    cases["operations"] = functools.partial(_operations, where.device)
    if Clock(where.device).cuda:
        cases["waits"] = functools.partial(_waits, where.device)
    return cases


def leaving_compiled(where: Where) -> Cases:
    """The router compiled; each part between two exits once for each of a few batch sizes."""
    return {"batches": functools.partial(_compiled, (1,) if where.small else (64, 7, 1, 6), where.device)}


def sure_net(device: str) -> MultiExitNet:
    """A net that is not trained, whose exits are differently sure of different images."""
    net = small_net(16)
    with torch.no_grad():
        for head in net.heads:
            head[-1].weight.mul_(32)
    return net.to(device).eval()


def images_for(net: nn.Module, size: int) -> Tensor:
    """Images of different colours, as the net's weights are."""
    draws = torch.Generator().manual_seed(size)
    colours = torch.randn(size, 3, 1, 1, generator=draws)
    x = 2 * colours + torch.randn(size, 3, SIZE, SIZE, generator=draws)
    first = next(net.parameters())
    layout = torch.channels_last if first.is_contiguous(memory_format=torch.channels_last) else None
    return x.to(first.device, first.dtype, memory_format=layout or torch.contiguous_format)


@torch.no_grad()
def policy_for(net: MultiExitNet, x: Any, staying: float | None, evaluated: Sequence[int]) -> Policy:
    """Thresholds in the widest gaps between confidences near which a share of the samples stays.

    Args:
        net: The net.
        x: The samples.
        staying: The share that is less sure than each threshold; None: one sample.
        evaluated: The exits with a threshold.
    """
    thresholds: list[float | None] = [None] * (net.num_exits - 1)
    outputs = net(x)
    count = len(outputs[0])
    for exit in evaluated:
        sure = outputs[exit - 1].float().softmax(1).amax(1).sort().values.double()
        ends = torch.cat([sure.new_tensor([-1.0]), sure, sure.new_tensor([2.0])])
        below = 1 if staying is None else round(staying * count)  # so many are under the threshold
        around = range(max(0, below - count // 8), min(count, below + count // 8) + 1)
        if staying in (None, 0, 1):
            around = range(below, below + 1)
        place = max(around, key=lambda i: float(ends[i + 1] - ends[i]))
        thresholds[exit - 1] = float(ends[place] + ends[place + 1]) / 2
    return Policy(thresholds)


@torch.no_grad()
def by_hand(net: MultiExitNet, policy: Policy, x: Any) -> Answers:
    """All exits of all samples, and of each the first that is sure."""
    readings = [output.float().softmax(1).max(1) for output in net(x)]
    thresholds = [*policy.thresholds, -1.0]
    last = net.num_exits - 1
    prediction, confidence = readings[last].indices, readings[last].values
    exit = torch.full_like(prediction, net.num_exits)
    for k in reversed(range(last)):
        threshold = thresholds[k]
        if threshold is None:
            continue
        sure = readings[k].values >= threshold
        prediction = torch.where(sure, readings[k].indices, prediction)
        confidence = torch.where(sure, readings[k].values, confidence)
        exit = torch.where(sure, k + 1, exit)
    return Answers(prediction, exit, confidence)


def routed(found: Answers, wanted: Answers, dtype: str) -> Mapping[str, Finding]:
    """How far answers are from others."""
    same = found.exit == wanted.exit
    apart = (found.confidence.float() - wanted.confidence.float()).abs()[same]
    other = (found.prediction != wanted.prediction)[same]
    return {
        "other exits": Finding(float((~same).double().mean()), WRONG[dtype]),
        "other classes": Finding(float(other.double().mean()) if len(other) else 0.0, WRONG[dtype]),
        "confidence": Finding(float(apart.max()) if len(apart) else 0.0, CONFIDENCE[dtype]),
    }


def _worst(each: Sequence[Mapping[str, Finding]]) -> Mapping[str, Finding]:
    return {key: max((found[key] for found in each), key=lambda f: f.value) for key in each[0]}


def _batch(
    how: str, change: Callable[[MultiExitNet], MultiExitNet], size: int, device: str
) -> Mapping[str, Finding]:
    net = change(sure_net(device))
    x = images_for(net, size)
    found = []
    for staying in STAYING.values():
        policy = policy_for(net, x, staying, EVALUATED)
        answer = Router(net, policy)(x)
        dtype = "bfloat16" if how == "bfloat16" else "float32"
        found.append(routed(Answers(*answer[:3]), by_hand(net, policy, x), dtype))
    return _worst(found)


def _streaming(device: str) -> Mapping[str, Finding]:
    """Singles from the CPU's memory and from the device's."""
    net = sure_net(device)
    x = images_for(net, 64)
    policy = policy_for(net, x, 0.5, EVALUATED)
    with StreamingRouter(net, policy, max_batch=16) as router:
        futures = [router.submit(each if n % 2 else each.cpu()) for n, each in enumerate(x)]
        answers = [future.result(120) for future in futures]
    columns = [[getattr(answer, name) for answer in answers] for name in Answers._fields]
    wanted = Answers(*(each.cpu() for each in by_hand(net, policy, x)))
    return routed(Answers(*map(torch.tensor, columns)), wanted, "float32")


def _anytime(device: str) -> Mapping[str, Finding]:
    net = sure_net(device)
    x = images_for(net, 64)
    policy = policy_for(net, x, 0.5, EVALUATED)
    router = Router(net, policy)
    at_once, late = router.anytime(x, 0.0), router.anytime(x, 600.0)
    early = int((at_once.exit != EVALUATED[0]).sum())
    later = routed(Answers(*late[:3]), by_hand(net, policy, x), "float32")
    return {"beyond the first exit": Finding(early, 0), **later}


def _operations(device: str) -> Mapping[str, Finding]:
    """The products that run are those of each sample's way."""
    net = sure_net(device).double()  # for which no kernel is taken on a CPU that the counter does not know
    x = images_for(net, 64)
    policy = policy_for(net, x, 0.5, EVALUATED)
    router = Router(net, policy)
    with FlopCounterMode(display=False) as counter:
        answer = router(x)
    costs = dict(zip(policy.evaluated, PathCosts(net, "macs").of(policy.evaluated), strict=True))
    wanted = sum(costs[exit] for exit in answer.exit.tolist())
    return {"other operations": Finding(abs(counter.get_total_flops() / 2 - wanted), 0)}


def _waits(device: str) -> Mapping[str, Finding]:
    """The host waits for the device once for each evaluated exit; at the last it waits for the answer."""
    net = sure_net(device)
    x = images_for(net, 64)
    policy = policy_for(net, x, 0.5, EVALUATED)
    router = Router(net, policy)
    router(x)
    torch.cuda.synchronize()
    waits = host_waits(lambda: router(x))
    return {"waits": Finding(waits, len(policy.evaluated)), "no waits": Finding(float(not waits), 0)}


def host_waits(run: Callable[[], object]) -> int:
    """How often the host waits for the device, as far as torch's debug mode tells.

    Counted are the warnings of the waits themselves; to be turned on the mode warns too, once a process, that
    it may not detect all "synchronizing operations".
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            run()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum(str(warning.message).startswith(WAIT) for warning in caught)


def _compiled(sizes: Sequence[int], device: str) -> Mapping[str, Finding]:
    from torch._dynamo.utils import counters

    net = sure_net(device)
    x = images_for(net, max(sizes))
    evaluated = EVALUATED[1:2]
    policy = policy_for(net, x, 0.5, evaluated)
    router = Router(net, policy, compile=True)
    counters.clear()
    found, met = [], set()
    for size in sizes:
        wanted = by_hand(net, policy, x[:size])
        found += [routed(Answers(*router(x[:size])[:3]), wanted, "float32") for _ in range(2)]
        for number, exit in enumerate((0, *evaluated)):
            present = int((wanted.exit > exit).sum())
            if present:
                met.add((number, bucket(present)))
    graphs = counters["stats"]["unique_graphs"]
    return {**_worst(found), "graphs": Finding(graphs, len(met)), "no graphs": Finding(float(not graphs), 0)}
