"""The application: its paths, and how its errors look."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from offramp_runtime import InputError, Model
from offramp_runtime.server._metrics import CONTENT_TYPE, Measured
from offramp_runtime.server._service import Service

__all__ = ["app"]

PAGE = Path(__file__).with_name("page.html")
PAGE_HEADERS = {  # the page loads nothing, and asks this server alone
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "img-src blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}


def app(
    model: Model,
    *,
    max_batch: int = 64,
    max_wait: float = 0.02,
    capacity: int = 1024,
    max_body: int = 16 * 2**20,
) -> Starlette:
    """An ASGI application that answers requests for predictions; docs/server.md says how to ask.

    Args:
        model: The model; it is not closed when the application ends.
        max_batch: How many samples run together at most.
        max_wait: How many seconds a sample waits at most for others to fill its batch, under load.
        capacity: How many requests may wait for their answer; further ones are refused (429).
        max_body: How many bytes a request may have (413); all requests together sixteen times that (429).

    Raises:
        InputError: A setting is out of its range.
    """
    service = Service(model, max_batch=max_batch, max_wait=max_wait, capacity=capacity, max_body=max_body)
    page = PAGE.read_bytes()

    async def show(request: Request) -> Response:
        return Response(page, media_type="text/html", headers=PAGE_HEADERS)

    async def metrics(request: Request) -> Response:
        return Response(service.metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[dict[str, Any]]:
        with service:
            yield {"metrics": service.metrics}

    routes = [
        Route("/", show),
        Route("/predict", service.predict, methods=["POST"]),
        Route("/walk", service.walk, methods=["POST"]),
        Route("/model", service.model_card),
        Route("/healthz", service.health),
        Route("/metrics", metrics),
    ]
    paths = [route.path for route in routes]
    application = Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=[Middleware(Measured, service.metrics, paths)],
        exception_handlers={HTTPException: _refused, InputError: _bad_input, Exception: _failed},
    )
    application.router.redirect_slashes = False
    return application


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405 and request.method == "OPTIONS":
        return Response(status_code=204, headers=error.headers)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _bad_input(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 400)


async def _failed(request: Request, error: Exception) -> Response:
    closes = {"Connection": "close"}  # as uvicorn does after a failure, which a client must know of
    return JSONResponse({"error": "the server failed; its log says how"}, 500, closes)
