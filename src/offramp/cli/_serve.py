"""``offramp serve``: a bundle over HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import tyro

from offramp.cli._answer import OUTPUT, Answer, OutputFlags
from offramp.cli._bundle import runtime, told

__all__ = ["ServeCommand"]


@dataclass(frozen=True)
class ServeCommand:
    """Serve a bundle over HTTP until SIGTERM or Ctrl+C; requests that have arrived by then are answered.

    POST an image to /predict; / shows a page, /healthz the server's state, and /metrics figures for
    Prometheus. It needs offramp-runtime, which serves without torch as `offramp-runtime serve`.
    """

    EXAMPLES: ClassVar[str] = """\
  offramp serve bundle
  offramp serve bundle --host 0.0.0.0 --port 80"""

    bundle: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="BUNDLE")]
    """folder that `offramp export` wrote"""
    host: str = "127.0.0.1"
    """address to listen at; 0.0.0.0: all of this machine"""
    port: int = 8000
    """port; 0: a free one"""
    threads: int | None = None
    """threads of one operation; default: one for each core"""
    max_batch: int = 64
    """samples that run together at most"""
    max_wait: float = 0.02
    """seconds that a sample waits at most for others to fill its batch, under load"""
    capacity: int = 1024
    """requests that may wait for their answer; further ones get status 429"""
    output: OutputFlags = OUTPUT

    def run(self) -> Answer:
        """Serve until the process is told to stop."""
        server = runtime("offramp_runtime.server")
        with told():
            server.serve(
                self.bundle,
                threads=self.threads,
                host=self.host,
                port=self.port,
                max_batch=self.max_batch,
                max_wait=self.max_wait,
                capacity=self.capacity,
            )
        return Answer({"bundle": self.bundle}, "stopped; all requests that had arrived are answered")
