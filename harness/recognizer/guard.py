"""What stands in front of the page: who may ask, how much, how long, and what the browser may do.

The Host header is compared with known names, so that a foreign web page cannot reach the server
through a name that it points at 127.0.0.1; a request that another page's script sends is refused by
its Origin.
"""

import asyncio
import json
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_S, ANSWER_S = 10.0, 30.0
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]


class Guard:
    """An ASGI application around another one. max_body: bytes."""

    def __init__(self, inner: ASGIApp, hosts: set[str], *, max_body: int) -> None:
        self._inner = inner
        self._hosts = hosts
        self._max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        headers = dict(scope["headers"])
        problem = self._problem(headers)
        if problem is not None:
            await _refuse(send, *problem)
            return
        started = False

        async def send_guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message.get("headers", []), *HEADERS]
            await send(message)

        try:
            async with asyncio.timeout(ANSWER_S):
                body = await self._body(receive)
                if body is None:
                    await _refuse(send, 413, f"expected at most {self._max_body:,} bytes")
                    return
                await self._inner(scope, _replay(body), send_guarded)
        except TimeoutError:
            if not started:
                await _refuse(send, 408, "the request or its answer took too long")
        except ConnectionResetError:
            return  # the client went away; there is nobody to tell

    def _problem(self, headers: MutableMapping[bytes, bytes]) -> tuple[int, str] | None:
        host = _name("//" + headers.get(b"host", b"").decode("latin-1"))
        if host not in self._hosts:
            return 421, "this server answers only to its own address"
        origin = headers.get(b"origin")
        if origin is not None and _name(origin.decode("latin-1")) not in self._hosts:
            return 403, "requests of other pages are refused"
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self._max_body:
            return 413, f"expected at most {self._max_body:,} bytes"
        return None

    async def _body(self, receive: Receive) -> bytes | None:
        """The whole body, or None when it is too long."""
        parts, size = [], 0
        async with asyncio.timeout(BODY_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ConnectionResetError
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > self._max_body:
                    return None
                if not message.get("more_body", False):
                    return b"".join(parts)


def _name(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


def _replay(body: bytes) -> Receive:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


async def _refuse(send: Send, status: int, message: str) -> None:
    content: Any = json.dumps({"error": message}).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close"), *HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
