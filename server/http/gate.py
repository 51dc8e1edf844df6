"""The gate before every route: who speaks (Host, Origin, token), and may it do this (policies.py).

Attacks by number are in docs/server.md. Nothing here depends on what a route does.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from graphflow import Problem

from ..options import Options
from .policies import READ, Policy
from .refusal import RequestRefused, refusal

__all__ = ["POLICIES", "cookie_name", "cookie_value", "gate", "is_right_token"]

POLICIES: web.AppKey[Mapping[web.AbstractRoute, Policy]] = web.AppKey("policies")

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
PORTS = {"http": 80, "https": 443}


def gate(options: Options) -> Middleware:
    """The middleware. It is pure but for the request it looks at."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        host = _host(request, options)
        origin = _origin(request, options, host)
        is_foreign = origin is not None and origin in options.cors
        if is_foreign and request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            return _preflight(origin or "")
        route = request.match_info.route
        policy = request.app[POLICIES].get(route)
        if policy is None:
            if request.match_info.http_exception is None:
                raise RequestRefused(403, Problem("no_policy", "this route states no policy, so nobody may use it"))
            policy = READ
        _check_site(request, policy, is_foreign)
        if policy.token and not is_known(request, options):
            raise RequestRefused(
                401,
                Problem(
                    "no_token",
                    "this server wants its token",
                    hint="open the link that it printed, or send 'Authorization: Bearer ...'",
                ),
            )
        if policy.writes:
            _check_encoding(request)
            _check_content(request, policy)
        try:
            response = await handler(request)
        except RequestRefused as refused:
            response = refusal(refused)
        if is_foreign and not response.prepared:
            response.headers["Access-Control-Allow-Origin"] = origin or ""
            response.headers["Vary"] = "Origin"
            response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        return response

    return check


def is_known(request: web.Request, options: Options) -> bool:
    """Whether the request carries the token, as a header or as the login cookie; compared in constant time."""
    if options.token is None:
        return True
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and is_right_token(given.strip(), options.token):
        return True
    cookie = request.cookies.get(cookie_name(options))
    return cookie is not None and is_right_token(cookie, cookie_value(options.token))


def is_right_token(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), token.encode())


def cookie_name(options: Options) -> str:
    """Browsers share cookies between the ports of a host, so each port has a name of its own."""
    return f"graphflow_{options.port}"


def cookie_value(token: str) -> str:
    """Proves the token without holding it."""
    return hmac.new(token.encode(), b"graphflow login cookie", hashlib.sha256).hexdigest()


# -- attack 2: DNS rebinding -----------------------------------------------------------------------------------------


def _host(request: web.Request, options: Options) -> tuple[str, int | None]:
    values = request.headers.getall("Host", [])
    found = _host_and_port(values[0]) if len(values) == 1 else None
    if found is None or not _is_allowed(found[0], options):
        raise RequestRefused(
            403,
            Problem(
                "wrong_host",
                "the Host header names no host that this server answers for",
                hint="start it with --allow-host NAME",
            ),
        )
    return found


def _host_and_port(text: str) -> tuple[str, int | None] | None:
    if not text or any(letter in text for letter in "/@?#\\ \t,"):
        return None
    try:
        parts = urlsplit(f"//{text}")
        port = parts.port
    except ValueError:
        return None
    return (parts.hostname.lower().rstrip("."), port) if parts.hostname else None


def _is_allowed(name: str, options: Options) -> bool:
    """Names by list; a bare address cannot be rebound, so those pass where the server listens beyond this machine."""
    if name in {"localhost", *(item.lower() for item in (options.public_name, *options.allow_hosts))}:
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or not options.is_loopback


# -- attacks 1 and 3: pages of other sites ---------------------------------------------------------------------------


def _origin(request: web.Request, options: Options, host: tuple[str, int | None]) -> str | None:
    values = request.headers.getall("Origin", [])
    if not values:
        return None
    wrong = RequestRefused(
        403,
        Problem(
            "wrong_origin",
            "a page of another site may not use this server",
            hint="start it with --cors ORIGIN to let a site in",
        ),
    )
    if len(values) > 1:
        raise wrong
    if values[0] in options.cors:
        return values[0]
    scheme, separator, rest = values[0].partition("://")
    found = _host_and_port(rest) if separator and scheme in PORTS else None
    if found is None:
        raise wrong
    default = PORTS[scheme]
    if (found[0], found[1] or default) != (host[0], host[1] or default):
        raise wrong
    return values[0]


def _check_site(request: web.Request, policy: Policy, is_foreign: bool) -> None:
    site = request.headers.get("Sec-Fetch-Site")
    if site is None or site in ("same-origin", "none") or is_foreign:
        return
    if policy.navigation and request.headers.get("Sec-Fetch-Mode") == "navigate" and request.method == "GET":
        return
    raise RequestRefused(403, Problem("cross_site", "a page of another site may not use this server"))


def _check_content(request: web.Request, policy: Policy) -> None:
    """Refuse from browsers what a form or a script of another site can send; programs may send any content type.

    Origin or Sec-Fetch-Site show that it is a browser. Sec-Fetch-Mode alone is what `fetch` in Node sends.
    """
    if request.method in SAFE_METHODS or not ("Origin" in request.headers or "Sec-Fetch-Site" in request.headers):
        return
    has_body = request.can_read_body and request.content_length != 0
    if has_body and request.content_type not in policy.content:
        wanted = " or ".join(policy.content)
        raise RequestRefused(415, Problem("wrong_content_type", f"found {request.content_type}, expected {wanted}"))


def _check_encoding(request: web.Request) -> None:
    """Bodies are taken as they are: what unpacks to a thousand times its size, or ends too early, cannot come."""
    found = ", ".join(request.headers.getall("Content-Encoding", []))
    if found.strip().lower() not in ("", "identity"):
        raise RequestRefused(
            415,
            Problem(
                "wrong_content_encoding",
                f"found Content-Encoding {found[:80]}, expected none",
                hint="send the body as it is, not packed",
            ),
        )


def _preflight(origin: str) -> web.Response:
    return web.Response(
        status=204,
        headers={
            "Access-Control-Allow-Origin": origin,
            "Vary": "Origin",
            "Access-Control-Max-Age": "600",
            "Access-Control-Allow-Methods": "GET, POST, DELETE, PATCH",
            "Access-Control-Allow-Headers": "Authorization, Content-Type, Comfy-User",
        },
    )
