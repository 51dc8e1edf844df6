"""Around every request: answers in one shape, a log line, numbers. Nothing here decides who may do what."""

from __future__ import annotations

import errno
import logging
import secrets
import time

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from graphflow import GraphFlowError, Problem

from ..monitoring.metrics import Metrics
from ..queue import QueueUnavailable
from .budget import BUDGET
from .own_pages import login_page
from .refusal import RequestRefused, refusal

__all__ = ["around"]

log = logging.getLogger("graphflow.server")

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EROFS, errno.EIO})
CLIENT_IS_GONE = 499
"""For the log and the metrics."""
NOT_NOW = {"queue_full": 429, "closing": 503, "no_disk": 507}
"""Why the queue takes nothing."""


def around(metrics: Metrics) -> Middleware:
    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        began = time.perf_counter()
        try:
            response = await _answer(request, handler)
        finally:
            request.app[BUDGET].give_back(request)
        seconds = time.perf_counter() - began
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else "none"
        metrics.requests.labels(request.method[:10], route, response.status).inc()
        if not isinstance(response, web.WebSocketResponse):
            metrics.request_seconds.labels(request.method[:10], route).observe(seconds)
        # The path without its query: queries may hold what should not be in a log.
        log.log(
            logging.WARNING if response.status >= 500 else logging.DEBUG if response.status < 400 else logging.INFO,
            "%s %s",
            request.method,
            response.status,
            extra={
                "method": request.method,
                "path": request.path,
                "status": response.status,
                "ms": round(1000 * seconds, 1),
                "client": request.remote,
            },
        )
        return response

    return middleware


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except RequestRefused as refused:
        if refused.status == 401 and request.method == "GET" and "text/html" in request.headers.get("Accept", ""):
            return login_page(401)
        return refusal(refused)
    except QueueUnavailable as error:
        return refusal(RequestRefused(NOT_NOW.get(error.problems[0].code, 503), error.problems))
    except GraphFlowError as error:
        return refusal(RequestRefused(400, error.problems))
    except web.HTTPException as error:
        return _from_http(error)
    except web.RequestPayloadError:
        return refusal(RequestRefused(400, Problem("not_http", "the body is cut up in a way that is not HTTP")))
    except ConnectionError:
        if request.transport is not None and not request.transport.is_closing():
            raise
        return web.Response(status=CLIENT_IS_GONE)  # nobody reads it; what is raised would be logged as our mistake
    except OSError as error:
        if error.errno in FULL:
            log.error("the machine has run out of something", exc_info=error)
            status = 507 if error.errno in (errno.ENOSPC, errno.EDQUOT) else 503
            text = error.strerror or "the machine has run out of something"
            return refusal(RequestRefused(status, Problem("unavailable", text, hint="try again when there is room")))
        return _incident(error)
    except Exception as error:
        return _incident(error)


def _from_http(error: web.HTTPException) -> web.Response:
    if error.status < 400:
        raise error
    code = "not_found" if error.status == 404 else "method_not_allowed" if error.status == 405 else "bad_request"
    hint = None if error.status not in (404, 405) else "GET /openapi.json lists the routes"
    if "Allow" in error.headers:
        hint = f"this path takes {error.headers['Allow']}; {hint}"
    response = refusal(RequestRefused(error.status, Problem(code, error.reason.lower(), hint=hint)))
    if "Allow" in error.headers:
        response.headers["Allow"] = error.headers["Allow"]
    return response


def _incident(error: Exception) -> web.Response:
    """The details stay in our log; the client gets a number to ask for."""
    incident = secrets.token_hex(4)
    log.error("incident %s", incident, exc_info=error, extra={"incident": incident})
    problem = Problem(
        "internal", "the server has made a mistake", hint=f"its log has the details under incident {incident}"
    )
    return refusal(RequestRefused(500, problem, kind="internal"))
