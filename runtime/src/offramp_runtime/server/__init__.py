"""A bundle behind HTTP: an ASGI application, and a server that runs it."""

from offramp_runtime.server._app import app
from offramp_runtime.server._serve import Server, serve

__all__ = ["Server", "app", "serve"]
