"""Who may ask: every request, whatever its route, passes here first.

1. Host must be one of ours, or a web page elsewhere could reach us under a name of its own (DNS rebinding): 421.
2. What a page elsewhere sends is refused: 403. Browsers say so in Origin and Sec-Fetch-Site; cookies alone do not
   protect, they are sent from other ports of the same host.
3. Token, as a cookie, in the address (exchanged for the cookie at once) or as a bearer: else 401.
4. WebSockets are refused: there are none here.

Every answer carries a content security policy without any exception: no inline script or style, nothing from elsewhere.
"""

from __future__ import annotations

import mamba_slm.dashboard.libraries  # noqa: F401 (first: it says what to install)

# isort: split
import base64
import hashlib
import http.cookies
import re
import urllib.parse

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mamba_slm.core.units import format_bytes
from mamba_slm.dashboard.config import DashboardConfig
from mamba_slm.dashboard.page.markup import Markup, tag
from mamba_slm.dashboard.tokens import cookie_name, cookie_value, is_same

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "manifest-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
SAFE_METHODS = ("GET", "HEAD")
COOKIE_SECONDS = 30 * 24 * 3600
MOST_BODY_BYTES = 4 * 2**20
MOST_DIGITS = 18
UPLOAD = "/api/upload"
STYLE = (
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:38rem;margin:3rem auto;padding:0 1rem;color-scheme:light dark}"
)
STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()


class Access:
    """An ASGI application around another one."""

    def __init__(self, app: ASGIApp, config: DashboardConfig):
        self.app, self.config = app, config
        self._cookie_name, self._cookie_value = cookie_name(config.token), cookie_value(config.token)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": "there are no WebSockets here"})
            return
        scope = self.below_root(scope)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        response = self.refusal(scope) or self.unknown_visitor(scope)
        if response is None:
            await self.app(scope, limited(receive, self.most_bytes(scope)), send_with_headers)
        else:
            await response(scope, receive, send_with_headers)

    def below_root(self, scope: Scope) -> Scope:
        """The scope without the proxy's path, whether the proxy takes it off or not."""
        root, path = self.config.root_path, scope["path"]
        if root and (path == root or path.startswith(root + "/")):
            path = path[len(root) :] or "/"
        return {**scope, "path": path, "root_path": "", "raw_path": urllib.parse.quote(path).encode()}

    def refusal(self, scope: Scope) -> Response | None:
        """The answer to a request that no token helps, or None."""
        headers = Headers(scope=scope)
        host = headers.get("host", "").lower()
        if without_port(host) not in self.config.hosts:
            name = without_port(host) or "HOST"
            shown = name if name.replace(".", "").replace("-", "").isalnum() else "HOST"
            return PlainTextResponse(
                f"the dashboard is not known under that name; if it should be, start it with --allowed-host {shown}\n",
                status_code=421,
            )
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        is_navigation = headers.get("sec-fetch-mode") == "navigate" and scope["method"] in SAFE_METHODS
        if origin is not None and not self.is_own_origin(origin, host):
            return PlainTextResponse("requests from other pages are refused\n", status_code=403)
        if site in ("cross-site", "same-site") and not is_navigation:
            return PlainTextResponse("requests from other pages are refused\n", status_code=403)
        if scope["method"] not in SAFE_METHODS and origin is None and site != "same-origin" and not bearer(headers):
            return PlainTextResponse("a request that changes something must say its Origin\n", status_code=403)
        most_bytes = self.most_bytes(scope)
        if int_or_zero(headers.get("content-length")) > most_bytes:
            return PlainTextResponse(f"more than {format_bytes(most_bytes)}\n", status_code=413)
        return None

    def most_bytes(self, scope: Scope) -> int:
        """The largest body of a request: files may be larger than forms."""
        return self.config.upload_bytes if scope["path"] == UPLOAD else MOST_BODY_BYTES

    def is_own_origin(self, origin: str, host: str) -> bool:
        """Whether the page that asks came from here: the same host and port, or the name of an allowed proxy."""
        try:
            found = urllib.parse.urlsplit(origin.lower())
        except ValueError:
            return False
        if found.scheme not in ("http", "https"):
            return False
        allowed = {name.lower() for name in self.config.allowed_hosts}
        return found.netloc == host or without_port(found.netloc) in allowed

    def unknown_visitor(self, scope: Scope) -> Response | None:
        """None for who knows the token; a redirection that sets the cookie, or 401."""
        headers = Headers(scope=scope)
        if is_same(bearer(headers), self.config.token):
            return None
        query = urllib.parse.parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = next((value for key, value in query if key == "token"), None)
        if given is None and self.has_cookie(headers):
            return None
        if given is None or not is_same(given, self.config.token) or scope["method"] not in SAFE_METHODS:
            return self.unauthorized(scope, is_wrong=given is not None)
        rest = urllib.parse.urlencode([(key, value) for key, value in query if key != "token"])
        path = "/" + scope["path"].lstrip("/\\")  # never //elsewhere
        response = RedirectResponse(
            self.config.root_path + urllib.parse.quote(path) + (f"?{rest}" if rest else ""), status_code=303
        )
        response.set_cookie(
            self._cookie_name,
            self._cookie_value,
            max_age=COOKIE_SECONDS,
            path=self.config.root_path or "/",
            httponly=True,
            samesite="lax",
            secure=scope.get("scheme") == "https",
        )
        return response

    def has_cookie(self, headers: Headers) -> bool:
        """Whether the request carries our cookie."""
        for line in headers.getlist("cookie"):
            try:
                found = http.cookies.SimpleCookie(line).get(self._cookie_name)
            except http.cookies.CookieError:
                continue
            if found is not None and is_same(found.value, self._cookie_value):
                return True
        return False

    def unauthorized(self, scope: Scope, *, is_wrong: bool) -> Response:
        """401: a page with a place for the token where a person asks, one line elsewhere."""
        why = "this is not the token" if is_wrong else "this needs the token of the dashboard"
        if "text/html" not in Headers(scope=scope).get("accept", ""):
            return PlainTextResponse(f"{why}; open the address that `mamba-slm dashboard` printed\n", status_code=401)
        policy = POLICY.replace("style-src 'self'", f"style-src 'sha256-{STYLE_HASH}'")
        return HTMLResponse(login_page(why, self.config.root_path), 401, {"content-security-policy": policy})


def login_page(why: str, root: str) -> str:
    """A page that asks for the token."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", "Token · mamba-slm"),
        Markup(f"<style>{STYLE}</style>"),
    )
    form = tag(
        "form",
        tag("label", "Token ", tag("input", type="password", name="token", required=True, autocomplete="off")),
        " ",
        tag("button", "Open"),
        action=f"{root}/",
        method="get",
    )
    body = tag(
        "main",
        tag("h1", "mamba-slm"),
        tag("p", f"{why[0].upper()}{why[1:]}. Open the address that ", tag("code", "mamba-slm dashboard"), " printed,"),
        tag("p", "or paste what follows ", tag("code", "?token="), " in it:"),
        form,
    )
    return f'<!doctype html><html lang="en">{head}{tag("body", body)}</html>'


def limited(receive: Receive, most_bytes: int) -> Receive:
    """`receive` that ends a body which is longer than it may be, whatever its header said."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        if message["type"] == "http.request":
            seen += len(message.get("body", b""))
            if seen > most_bytes:
                raise HTTPException(413, f"more than {format_bytes(most_bytes)}")
        return message

    return counted


def without_port(host: str) -> str:
    """The name in a Host header.

    >>> without_port("[::1]:8888"), without_port("localhost:8888"), without_port("example.org")
    ('[::1]', 'localhost', 'example.org')
    """
    return re.sub(r":\d*$", "", host, flags=re.ASCII)


def bearer(headers: Headers) -> str:
    """The token of an `Authorization: Bearer` header; empty when there is none."""
    kind, _, value = headers.get("authorization", "").partition(" ")
    return value.strip() if kind.lower() == "bearer" else ""


def int_or_zero(text: str | None) -> int:
    """A header's number; 0 when it is none."""
    return int(text[:MOST_DIGITS]) if text and text.isascii() and text.isdigit() else 0
