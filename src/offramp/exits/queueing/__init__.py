"""The queue before a net that is run in steps: requests come one by one, and run in batches.

It needs no package besides Python, and imports none of the library: an :class:`Engine` runs the net, and says
what its answers are.
"""

from ._backlog import Backlog, Closed
from ._engine import BatchResult, Engine
from ._pace import Pace
from ._request import Kind, PendingAnswer, Request
from ._scheduler import Scheduler
from ._worker import Forked, Worker

__all__ = [
    "Backlog",
    "BatchResult",
    "Closed",
    "Engine",
    "Forked",
    "Kind",
    "Pace",
    "PendingAnswer",
    "Request",
    "Scheduler",
    "Worker",
]
