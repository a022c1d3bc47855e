"""The router for single requests, as a server gets them: it makes the batches itself."""

from __future__ import annotations

import time
import weakref
from collections.abc import Hashable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from offramp.checks import is_number, number, whole
from offramp.errors import UserError, shown
from offramp.exits._engine import SampleAnswer, TorchEngine
from offramp.exits._inference import InferenceNet
from offramp.exits._inputs import Input, Inputs
from offramp.exits.policy import Policy
from offramp.exits.queueing import Backlog, Closed, Forked, Kind, Request, Worker
from offramp.nets import MultiExitNet

__all__ = ["StreamingRouter"]


@dataclass(frozen=True)
class _Settings:
    max_batch: int
    max_wait: float
    capacity: int

    def __post_init__(self) -> None:
        whole(self, "max_batch", 1)
        number(self, "max_wait", "of seconds, 0 or more", lambda value: value >= 0)
        whole(self, "capacity", 1)


class StreamingRouter:
    """Runs a net on single samples that come at any time, in batches that are filled up behind every exit.

    Requests come from any number of threads; one thread of the router's own runs the net. Samples that leave
    make room in the next step's batch, which samples of other batches take that wait there (dynamic
    rebatching: DREX, Liu et al., arXiv 2512.15705). What fails, fails alone: a request that is cancelled or
    comes too late is dropped before the next step, and a batch in which one raises runs again without it.
    The net is copied, as for :class:`Router`, and runs under the autocast that the router was made under.

    It is a context manager that answers all requests before it ends::

        with StreamingRouter(net, policy) as router:
            futures = [router.submit(image, timeout=0.5) for image in images]
            answers = [future.result() for future in futures]

    Args:
        net: The net, in its dtype, memory format and on its device.
        policy: When samples leave.
        max_batch: How many samples run together at most.
        max_wait: How many seconds a sample waits at most, behind each exit, while full batches go before it
            and others come to fill its own. Samples wait under load only; with 0 they never do.
        capacity: How many requests may wait for their answer at a time, which bounds the memory of their
            features; further ones wait in ``submit``.
        compile: As for :class:`Router`; a batch of a size not met before waits until that is compiled.

    Raises:
        UserError: A setting out of its range, the policy is for another net, or samples of the net do not
            stay apart.
    """

    def __init__(
        self,
        net: MultiExitNet,
        policy: Policy,
        *,
        max_batch: int = 64,
        max_wait: float = 0.02,
        capacity: int = 256,
        compile: bool = False,
    ) -> None:
        _Settings(max_batch, max_wait, capacity)
        self._net = InferenceNet(net, policy, compile=compile)
        self._inputs = Inputs(net)
        self._kinds: dict[Hashable, Kind] = {}
        self._engine = TorchEngine(self._net)
        backlog: Backlog[SampleAnswer] = Backlog(capacity)
        self._worker = Worker(self._engine, backlog, max_batch=max_batch, max_wait=max_wait)
        self._worker.start()
        weakref.finalize(self, backlog.close)  # the thread ends with the router

    def submit(
        self,
        x: Any,
        *,
        threshold: float | None = None,
        budget: float | None = None,
        timeout: float | None = None,
        block: bool = True,
    ) -> Future[SampleAnswer]:
        """Hand in one sample.

        The future raises ``TimeoutError`` where the request was not answered in time, and whatever the net
        raised where that is due to this sample; ``cancel()`` works until the answer is there. Its callbacks
        run in the router's thread, and should be quick. With asyncio: ``asyncio.wrap_future(future)``.

        Args:
            x: What the net reads, without the batch axis: a Tensor ``[*input_size]``, or several by name; on
                the net's device or on the CPU. It is read later, so do not write to it. Samples of different
                shapes do not run together.
            threshold: Leave where the confidence reaches this, in place of the policy's thresholds.
            budget: Operations that the sample may take, in the net's counting convention; it leaves at the
                last exit that they suffice for, if not before.
            timeout: Give up after so many seconds. What runs by then runs to the next exit.
            block: Wait while ``capacity`` requests wait for their answer.

        Raises:
            UserError: Not a sample of this net, an option out of its range, or the router is closed.
            queue.Full: There is no room, and it is not to wait (in a callback it never does).
        """
        if threshold is not None and not is_number(threshold):
            raise UserError(
                f"threshold is {shown(threshold)}, must be a number; leave it out for the policy's"
            )
        if timeout is not None and not (is_number(timeout) and timeout > 0):
            raise UserError(
                f"timeout is {shown(timeout)}, must be a number of seconds above 0; leave it out to wait"
            )
        leaves, kind = self._sample(x)
        request: Request[SampleAnswer] = Request(leaves, kind, self._last(budget, kind), threshold)
        if timeout is not None:
            request.timeout, request.deadline = timeout, time.monotonic() + timeout
        try:
            self._worker.put(request, block)
        except Forked:
            raise UserError(
                "the router's thread is not in this process, which was forked; make the router after the fork"
            ) from None
        except Closed:
            raise UserError("the router is closed and takes no more requests; make another one") from None
        return request.future

    def close(self, *, cancel: bool = False) -> None:
        """Take no more requests, answer those that wait, and end the router's thread.

        Args:
            cancel: Cancel those that wait instead.
        """
        self._worker.close(cancel=cancel)

    def __enter__(self) -> StreamingRouter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(cancel=kind is not None)

    def _sample(self, x: Any) -> tuple[list[Tensor], Kind]:
        """The Tensors of a sample, and what it can be stacked with; checked where that is new."""
        leaves, form = pytree.tree_flatten(dict(x) if isinstance(x, Mapping) else x)
        if not all(isinstance(leaf, Tensor) for leaf in leaves):
            self._check(x)
        key = (form, *((leaf.shape, leaf.dtype, leaf.device) for leaf in leaves))
        if (kind := self._kinds.get(key)) is None:
            batch = pytree.tree_unflatten([leaf[None].to(self._net.device) for leaf in leaves], form)
            with self._engine.autocast():
                counted = self._check(batch).counted
            kind = self._kinds.setdefault(key, Kind(form, counted=counted))
        return leaves, kind

    def _check(self, batch: Any) -> Input:
        try:
            return self._inputs.read(batch)
        except UserError as error:
            raise UserError(
                f"a request is one sample, without a batch axis; as a batch of 1, {error}"
            ) from None

    def _last(self, budget: float | None, kind: Kind) -> int:
        """The place of the last step that a budget suffices for."""
        steps = self._net.steps
        if budget is None:
            return len(steps) - 1
        known = [step.cost for step in steps if step.cost is not None]
        if not known or not kind.counted:
            which = "the net" if not known else "inputs of this size"
            raise UserError(
                f"operations of {which} are unknown, so there is no budget; give `threshold=` instead"
            )
        if not is_number(budget) or budget < known[0]:
            raise UserError(
                f"budget is {shown(budget)}, must be a number of operations of at least {known[0]}, the cost "
                f"of exit {steps[0].gate.exit}"
            )
        return sum(cost <= budget for cost in known) - 1
