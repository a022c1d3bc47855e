"""A bundle under Ray Serve: ``serve run offramp_runtime.ray_serve:app bundle=/path/to/bundle``.

Each replica is what ``offramp-runtime serve`` is on one machine: the same paths and answers, and a stream of
its own, which fills the batches of every step anew from the requests that the replica has. Serve spreads
requests over replicas, adds some while each has more than a batch of requests, and takes them away again.
"""

from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve import Application
from starlette.applications import Starlette

from offramp_runtime import load, server

__all__ = ["Settings", "app"]


class Settings(BaseModel):
    """What ``serve run`` takes as words ``name=value``, and a file of Serve's as ``args``.

    Attributes:
        bundle: Folder of the bundle, which every node sees under this path.
        threads: Of each replica, and the CPUs that it asks Ray for.
        replicas: How many there may be.
        max_batch: How many samples run together at most in a replica.
        max_wait: How many seconds a sample waits at most for others to fill its batch, under load.
        capacity: How many requests a replica holds, and how many more may wait for one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    bundle: str
    threads: int = Field(1, ge=1)
    replicas: int = Field(1, ge=1)
    max_batch: int = Field(64, ge=1)
    max_wait: float = Field(0.02, ge=0)
    capacity: int = Field(1024, ge=1)


def app(settings: Settings) -> Application:
    """The application, whose one deployment is called ``bundle``; a file of Serve's may set its options anew.

    Args:
        settings: What was given; this annotation is why Serve checks it, so it must not become a string.
    """

    def http() -> Starlette:  # called in each replica
        return server.app(
            load(settings.bundle, threads=settings.threads),
            max_batch=settings.max_batch,
            max_wait=settings.max_wait,
            capacity=settings.capacity,
        )

    deployed = serve.deployment(
        name="bundle",
        ray_actor_options={"num_cpus": settings.threads},
        max_ongoing_requests=settings.capacity,
        max_queued_requests=settings.capacity,
        autoscaling_config={
            "min_replicas": 1,
            "max_replicas": settings.replicas,
            "target_ongoing_requests": settings.max_batch,
        },
    )
    return deployed(serve.ingress(http)()).bind()
