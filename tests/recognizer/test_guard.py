"""The guard passes requests on or rejects them, without a server."""

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from harness.recognizer import guard
from harness.recognizer.guard import Guard, Hosts

LIMIT = 100
LOCAL = Hosts(frozenset({"localhost", "::1"}))


def ask(
    headers: dict[str, str],
    body: Iterable[bytes] = (b"",),
    pause_s: float = 0,
    hosts: Hosts = LOCAL,
) -> tuple[int, dict[bytes, bytes], bytes]:
    """Send one request to a guarded application that returns the body it receives."""

    async def echo(scope: Any, receive: Any, send: Any) -> None:
        content = await Request(scope, receive).body()
        await Response(content)(scope, receive, send)

    parts = list(body)
    messages = [
        {"type": "http.request", "body": part, "more_body": number < len(parts)}
        for number, part in enumerate(parts, 1)
    ]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(pause_s)
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": raw}
    application = Guard(echo, hosts, max_body=LIMIT)
    asyncio.run(application(scope, receive, send))
    if not sent:
        return 0, {}, b""
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "localhost"}, 200),
        ({"Host": "LOCALHOST:8000"}, 200),
        ({"Host": "[::1]:8000"}, 200),
        ({}, 421),
        ({"Host": ""}, 421),
        ({"Host": "evil.example"}, 421),
        ({"Host": "localhost.evil.example"}, 421),
        ({"Host": "[::1"}, 421),
        ({"Host": "localhost", "Origin": "http://localhost:8000"}, 200),
        ({"Host": "localhost", "Origin": "http://evil.example"}, 403),
        ({"Host": "localhost", "Origin": "null"}, 403),
        ({"Host": "localhost", "Content-Length": str(LIMIT)}, 200),
        ({"Host": "localhost", "Content-Length": str(LIMIT + 1)}, 413),
        ({"Host": "localhost", "Content-Length": "-1"}, 413),
    ],
)
def test_headers(headers: dict[str, str], status: int) -> None:
    answered, sent, body = ask(headers)
    assert answered == status
    assert sent[b"content-security-policy"].startswith(b"default-src 'none'")
    assert sent[b"x-content-type-options"] == b"nosniff"
    if status != 200:
        assert set(json.loads(body)) == {"error"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "192.0.2.7:8000"}, 200),
        ({"Host": "[2001:db8::7]:8000"}, 200),
        ({"Host": "localhost"}, 200),
        ({"Host": "box:8000"}, 200),
        ({"Host": "evil.example"}, 421),
        ({"Host": "192.0.2.7.evil.example"}, 421),
        ({"Host": "192.0.2.7", "Origin": "http://192.0.2.7:8000"}, 200),
        ({"Host": "192.0.2.7", "Origin": "http://192.0.2.8"}, 403),
        ({"Host": "192.0.2.7", "Origin": "http://evil.example"}, 403),
    ],
)
def test_a_server_on_all_addresses_answers_to_each(headers: dict[str, str], status: int) -> None:
    assert ask(headers, hosts=Hosts(frozenset({"localhost", "Box"}), any_address=True))[0] == status


def test_an_error_of_the_application_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    async def failing(scope: Any, receive: Any, send: Any) -> None:
        raise AttributeError("first\nsecond")

    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "headers": [(b"host", b"localhost")]}
    asyncio.run(Guard(failing, LOCAL, max_body=LIMIT)(scope, receive, send))
    assert sent[0]["status"] == 500
    assert capsys.readouterr().err == "a request failed: AttributeError: first\n"


def test_the_body_arrives_whole_or_is_too_long() -> None:
    host = {"Host": "localhost"}
    half = b"x" * (LIMIT // 2)
    assert ask(host, [half, half])[::2] == (200, 2 * half)
    assert ask(host, [half, half, b"x"])[0] == 413


def test_all_bodies_together_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "MAX_HELD", LIMIT + LIMIT // 2)
    started = asyncio.Event()

    async def waiting(scope: Any, receive: Any, send: Any) -> None:
        await started.wait()
        await Response(await Request(scope, receive).body())(scope, receive, send)

    async def post(application: Guard) -> int:
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"x" * LIMIT, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "headers": [(b"host", b"localhost")]}
        await application(scope, receive, send)
        return int(sent[0]["status"])

    async def talk() -> None:
        application = Guard(waiting, LOCAL, max_body=LIMIT)
        first = asyncio.ensure_future(post(application))
        await asyncio.sleep(0)
        assert await post(application) == 503
        started.set()
        assert await first == 200
        assert await post(application) == 200

    asyncio.run(talk())


def test_a_slow_body_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "BODY_S", 0.02)
    assert ask({"Host": "localhost"}, pause_s=5)[0] == 408


def test_a_client_that_disconnects_gets_no_answer() -> None:
    assert ask({"Host": "localhost"}, [])[0] == 0
