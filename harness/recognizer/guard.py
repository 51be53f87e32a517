"""ASGI middleware that limits requests: host, origin, size, and time; and sets security headers.

Only known names are accepted in the Host header, so that a foreign web page cannot reach the server
by pointing its own domain at 127.0.0.1 (DNS rebinding). A server that listens on more than loopback
also accepts every address there, because no domain can stand for an address. A request from a
script of another page is rejected by its Origin header.
"""

import asyncio
import ipaddress
import json
import sys
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_S, ANSWER_S = 10.0, 30.0  # seconds to receive the body; to receive and answer a request
MAX_HELD = 256 << 20  # bytes of all requests at once
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


@dataclass(frozen=True)
class Hosts:
    """The names that a server answers to, without port, in any case.

    any_address: it also answers to every IP address.
    """

    names: frozenset[str]
    any_address: bool = False

    def accept(self, host: str | None) -> bool:
        """Whether a Host header may have this name (lower case; None: it has none)."""
        return self.know(host) or (self.any_address and _is_address(host))

    def know(self, host: str | None) -> bool:
        """Whether this (lower case) is one of the names."""
        return host in {name.lower() for name in self.names}


def _is_address(host: str | None) -> bool:
    try:
        ipaddress.ip_address(host or "")
    except ValueError:
        return False
    return True


class Guard:
    """An ASGI application that checks each request before it passes it on.

    hosts: accepted in the Host header. max_body: bytes. An error of the application is one line on
    standard error.
    """

    def __init__(self, application: ASGIApp, hosts: Hosts, *, max_body: int) -> None:
        self._application = application
        self._hosts = hosts
        self._max_body = max_body
        self._held = 0  # bytes of all requests that are not answered yet

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request: pass it on, or reject it with an error as JSON."""
        if scope["type"] != "http":
            return
        headers = dict(scope["headers"])
        problem = self._problem(headers)
        if problem is not None:
            await _reject(send, *problem)
            return
        started = False

        async def send_guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message.get("headers", []), *HEADERS]
            await send(message)

        parts: list[bytes] = []
        try:
            async with asyncio.timeout(ANSWER_S):
                problem = await self._receive(receive, parts)
                if problem is not None:
                    await _reject(send, *problem)
                    return
                await self._application(scope, _replay(b"".join(parts)), send_guarded)
        except TimeoutError:
            if not started:
                await _reject(send, 408, "the request or its answer took too long")
        except ConnectionResetError:
            return  # the client disconnected
        except Exception as error:
            reason = (str(error).strip() or "no message").splitlines()[0]
            print(
                f"a request failed: {type(error).__name__}: {reason}", file=sys.stderr, flush=True
            )
            if not started:
                await _reject(send, 500, "the server failed; its messages say why")
        finally:
            self._held -= sum(map(len, parts))

    def _problem(self, headers: MutableMapping[bytes, bytes]) -> tuple[int, str] | None:
        """The status and message of a request to reject; None if its headers are acceptable."""
        host = _hostname("//" + headers.get(b"host", b"").decode("latin-1"))
        if not self._hosts.accept(host):
            return 421, (
                "the Host header must be an address or a name of this server; "
                "`python -m harness serve --allow-host NAME` adds a name"
            )
        if b"origin" in headers:
            origin = _hostname(headers[b"origin"].decode("latin-1"))
            if origin != host and not self._hosts.know(origin):
                return 403, "requests from other web pages are rejected"
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self._max_body:
            return 413, f"expected at most {self._max_body:,} bytes"
        return None

    async def _receive(self, receive: Receive, parts: list[bytes]) -> tuple[int, str] | None:
        """Append the body to `parts`; returns the status and message if it is too long."""
        size = 0
        async with asyncio.timeout(BODY_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ConnectionResetError
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                self._held += len(parts[-1])
                if size > self._max_body:
                    return 413, f"expected at most {self._max_body:,} bytes"
                if self._held > MAX_HELD:
                    return 503, "too many large requests at once; try again"
                if not message.get("more_body", False):
                    return None


def _hostname(address: str) -> str | None:
    """The host of a URL, lower case, without port; None if there is none."""
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


def _replay(body: bytes) -> Receive:
    """A `receive` that yields a body that was already read."""

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


async def _reject(send: Send, status: int, message: str) -> None:
    content: Any = json.dumps({"error": message}).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close"), *HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
