"""A server of one bundle: a process that answers until it is told to stop, and then answers what it has."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import uvicorn

from offramp_runtime import InputError, Model, load
from offramp_runtime._errors import shown
from offramp_runtime._fields import is_number, is_whole
from offramp_runtime.server._app import app
from offramp_runtime.server._connection import Connection

__all__ = ["Server", "serve"]

MOST_CONNECTIONS = 4096
BACKLOG = 2048
KEEP_ALIVE = 65  # seconds between requests; load balancers give up after 60, and are to be the first


class _Server(uvicorn.Server):
    """A server for which being told to stop is no failure: the process ends with 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at SIGINT and SIGTERM, without raising them again at the end."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        signals = (signal.SIGINT, signal.SIGTERM)
        before = {each: signal.signal(each, self.handle_exit) for each in signals}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)


class Server:
    """A server of one model, which listens from the start and answers while it runs.

    Args:
        model: The model.
        host: The address to listen at; ``0.0.0.0`` for all of this machine.
        port: The port; 0 for one that is free.
        patience: Seconds that a client has to send a request, and to read what it is sent.
        settings: As of :func:`~offramp_runtime.server.app`.

    Attributes:
        url: Where it listens.

    Raises:
        InputError: The address cannot be listened at, or a setting is out of its range.
    """

    def __init__(
        self,
        model: Model,
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        patience: float = 30,
        **settings: Any,
    ) -> None:
        if not is_number(patience) or patience <= 0:
            raise InputError(f"patience is {shown(patience)}, must be a number of seconds above 0")
        application = app(model, **settings)
        self._listener = _listener(host, port)
        self.url = _url(self._listener)
        connection = partial(Connection, patience=patience, most=_connections(), stopping=self._stopping)
        self._server = _Server(
            uvicorn.Config(
                application,
                http=connection,  # type: ignore[arg-type]  # it is called as a class would be
                ws="none",
                loop="asyncio",
                lifespan="on",
                backlog=BACKLOG,
                timeout_keep_alive=KEEP_ALIVE,
                log_config=None,  # the program's own
                log_level="error",
                access_log=False,
                server_header=False,
                proxy_headers=False,
            )
        )

    def run(self) -> None:
        """Answer until SIGTERM, SIGINT (Ctrl+C) or :meth:`stop`.

        Then no more connections are taken, requests that have come are answered, and the call returns.
        """
        self._server.run(sockets=[self._listener])

    def stop(self) -> None:
        """End :meth:`run`, from another thread."""
        self._server.should_exit = True

    def _stopping(self) -> bool:
        return self._server.should_exit


def serve(bundle: str | os.PathLike[str], *, threads: int | None = None, **settings: Any) -> None:
    """Load a bundle, say where it is served (on stderr), and serve it until SIGTERM or Ctrl+C.

    Args:
        bundle: The folder.
        threads: As of :func:`offramp_runtime.load`.
        settings: As of :class:`Server`.

    Raises:
        BundleError: Anything is wrong with the folder.
        InputError: The address cannot be listened at, or a setting is out of its range.
    """
    server = Server(load(bundle, threads=threads), **settings)
    warnings.filterwarnings("ignore", module=r"PIL\.")  # a client's image writes no lines into the log
    gc.collect()
    gc.freeze()  # the model stays: the collector, which stops all threads, need not look at it
    print(f"{bundle} is served at {server.url}", file=sys.stderr, flush=True)
    server.run()


def _listener(host: str, port: int) -> socket.socket:
    if not is_whole(port, 0, 2**16 - 1):
        raise InputError(f"port is {shown(port)}, must be a whole number from 0 to {2**16 - 1}")
    if not isinstance(host, str):
        raise InputError(f"host is {shown(host)}, must be an address or a name of this machine")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        # Before create_server, which raises TypeError of what cannot be a name and leaves its socket open.
        found = socket.getaddrinfo(host or None, port, family, socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        made = socket.create_server(found[0][4], family=family, backlog=BACKLOG)
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).split(" (while ")[0]  # Python's addition
        raise InputError(
            f"cannot listen at {host}, port {port}: {reason}; give another host or port"
        ) from None
    # Named as TCP, without which asyncio leaves Nagle's algorithm on, and every answer waits for 40 ms.
    return socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=made.detach())


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _connections() -> int:
    """How many connections there may be; the process may open as many files as the system lets it."""
    try:
        import resource
    except ImportError:  # Windows, where there is no such bound
        return MOST_CONNECTIONS
    infinity, wanted = resource.RLIM_INFINITY, 2 * MOST_CONNECTIONS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != infinity and soft < wanted:
        with contextlib.suppress(ValueError, OSError):  # a system that allows fewer than it says
            resource.setrlimit(
                resource.RLIMIT_NOFILE, (wanted if hard == infinity else min(wanted, hard), hard)
            )
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_CONNECTIONS if soft == infinity else min(MOST_CONNECTIONS, soft // 2)
