"""Keys, and how much each may ask for."""

from __future__ import annotations

import math

from mamba_slm.serving.api.guard.caller import CALLER, Caller
from mamba_slm.serving.api.guard.keys import KeyRing
from mamba_slm.serving.api.guard.limits import Allowance, Allowances
from mamba_slm.serving.api.guard.replies import App, Message, Receive, Scope, Send, header, refuse
from mamba_slm.serving.api.guard.settings import GuardSettings

OPEN_PATHS = frozenset({"/health", "/ready"})
"""For load balancers, which have no key; neither limited."""
METRICS_PATH = "/metrics"


class Access:
    """Finds out who asks, refuses who may not, and counts."""

    def __init__(self, app: App, *, settings: GuardSettings, keys: KeyRing | None, allowances: Allowances):
        """
        Args:
            keys: None: everybody may ask.
        """
        self.app, self.settings, self.keys, self.allowances = app, settings, keys, allowances

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        path, client = scope["path"], scope.get("client")
        caller = Caller(address=client[0] if client else "")
        scope.setdefault("state", {})["key"] = caller
        token = CALLER.set(caller)
        try:
            if path in OPEN_PATHS:
                return await self.app(scope, receive, send)
            if self.keys is not None and not await self.knows(caller, scope, send):
                return None
            allowance = caller.allowance
            if self.keys is None:
                allowance = self.allowances.of(
                    caller.address, self.settings.requests_per_minute, self.settings.tokens_per_minute
                )
                caller.allowance = allowance
            if allowance is None or path == METRICS_PATH:
                return await self.app(scope, receive, send)
            await self.within(allowance, caller, scope, receive, send)
        finally:
            CALLER.reset(token)

    async def knows(self, caller: Caller, scope: Scope, send: Send) -> bool:
        """Whether the request has a key that is good for its path; answers it where not."""
        assert self.keys is not None
        given = presented_key(scope)
        record = None if given is None else self.keys.find(given)
        if record is None:
            words = "this server needs an API key: send the header Authorization: Bearer KEY"
            if given is not None:
                words = "the API key is not known here"
            challenge = [(b"www-authenticate", b"Bearer")]
            await refuse(send, 401, words, code="invalid_api_key", headers=challenge)
            return False
        caller.name, caller.is_admin, caller.has_key = record.name, record.role == "admin", True
        wants_metrics = scope["path"] == METRICS_PATH
        if wants_metrics != (record.role == "metrics") and not caller.is_admin:
            words = f"the key {record.name!r} may {'not ' if wants_metrics else ''}read {METRICS_PATH}"
            await refuse(send, 403, words if wants_metrics else f"{words}, nothing else", code="key_not_allowed")
            return False
        settings = self.settings
        caller.allowance = self.allowances.of(
            record.id,
            record.requests_per_minute or settings.requests_per_minute,
            record.tokens_per_minute or settings.tokens_per_minute,
        )
        return True

    async def within(self, allowance: Allowance, caller: Caller, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request within its limits, or say when it may come back; the headers say what is left."""

        async def with_limits(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *allowance.headers()]
            await send(message)

        refusal = allowance.take_request()
        if refusal is None:
            return await self.app(scope, receive, with_limits)
        whose = f"the key {caller.name!r}" if caller.has_key else "this address"
        await refuse(
            with_limits,
            429,
            f"{whose} has used up its {refusal.per_minute:,} {refusal.what} per minute: "
            f"try again in {math.ceil(refusal.seconds)} s",
            kind=refusal.what,
            code="rate_limit_exceeded",
            headers=[(b"retry-after", str(max(1, math.ceil(refusal.seconds))).encode())],
        )


def presented_key(scope: Scope) -> str | None:
    """The key of a request: `Authorization: Bearer KEY`, as OpenAI's clients send it, or `X-API-Key`."""
    authorization = header(scope, b"authorization")
    if authorization is not None:
        kind, _, key = authorization.partition(" ")
        return key.strip() if kind.lower() == "bearer" else ""
    return header(scope, b"x-api-key")
