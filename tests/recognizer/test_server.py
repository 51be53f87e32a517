"""The JSON API over a real connection to the real command."""

import asyncio
import base64
import contextlib
import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from harness.recognizer.guard import Hosts
from harness.recognizer.preprocess import preprocess
from harness.recognizer.recognizer import Recognizer
from harness.recognizer.server import app
from harness.recognizer.service import Service
from tests.commands.test_ui import free_port
from tests.recognizer.test_picture import DRAWING, encoded, png

RAW, JSON = "application/octet-stream", "application/json"


@pytest.fixture(scope="module")
def port(outputs: Path) -> Iterator[int]:
    """The port of `python -m harness serve`."""
    with served("--outputs", str(outputs)) as number:
        yield number


@contextlib.contextmanager
def served(*arguments: str) -> Iterator[int]:
    """Run `python -m harness serve ARGUMENTS` and yield its port."""
    number = free_port()
    command = [sys.executable, "-m", "harness", "serve", *arguments]
    server = subprocess.Popen([*command, "--port", str(number)], stdout=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", number)) == 0:
                    break
            time.sleep(0.1)
        yield number
    finally:
        server.terminate()
        server.communicate(timeout=30)


def ask(
    port: int, method: str, path: str, content: bytes = b"", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, content, named)
    reply = connection.getresponse()
    answer = reply.status, dict(reply.getheaders()), reply.read()
    connection.close()
    return answer


def post(port: int, content: bytes, kind: str, query: str = "", **headers: str) -> tuple[int, Any]:
    path = f"/api/predict{query}"
    status, _, body = ask(port, "POST", path, content, Content_Type=kind, **headers)
    return status, json.loads(body)


def test_three_ways_to_send_one_picture(port: int, trained: Recognizer) -> None:
    (expected,) = trained.read([DRAWING])
    height, width = DRAWING.shape
    for content, kind, query in (
        (encoded_png(), "image/png", ""),
        (DRAWING.tobytes(), RAW, f"?width={width}&height={height}"),
        (json.dumps({"pixels": DRAWING.tolist()}).encode(), JSON, ""),
    ):
        status, answer = post(port, content, kind, query)
        assert status == 200, answer
        assert answer["digit"] == expected.digit
        assert answer["probabilities"] == pytest.approx(expected.probabilities, abs=1e-5)
        assert sum(answer["probabilities"]) == pytest.approx(1, abs=1e-4)
        seen = np.frombuffer(base64.b64decode(answer["seen"]), np.uint8).reshape(28, 28)
        assert np.array_equal(seen, preprocess(DRAWING).image)
        assert answer["model"] == trained.run_id


def encoded_png() -> bytes:
    from PIL import Image

    return encoded(Image.fromarray(DRAWING))


def test_an_empty_drawing(port: int) -> None:
    status, answer = post(port, bytes(100), RAW, "?width=10&height=10")
    assert status == 200
    assert answer["digit"] is None
    assert answer["problem"].startswith("no digit found")
    assert answer["probabilities"] == []


def test_the_models(port: int, trained: Recognizer) -> None:
    status, _, body = ask(port, "GET", "/api/models")
    answer = json.loads(body)
    assert status == 200
    assert answer["default"] == trained.run_id
    assert answer["title"] == "Draw a digit"
    assert b"<title>Draw a digit</title>" in ask(port, "GET", "/")[2]
    assert [model["id"] for model in answer["models"]] == [trained.run_id]


@pytest.mark.parametrize(
    ("content", "kind", "query", "status"),
    [
        (b"text", "image/png", "", 400),
        (png(100_000, 100_000), "image/png", "", 400),
        (b"text", "text/plain", "", 415),
        (b"{", JSON, "", 400),
        (b"[" * 100_000, JSON, "", 400),
        (b'{"pixels": [[1, 2], [3]]}', JSON, "", 400),
        (b'{"pixels": [["a"]]}', JSON, "", 400),
        (b'{"pixels": [[NaN]]}', JSON, "", 400),
        (b'{"pixels": [[-1, 256]]}', JSON, "", 400),
        (b'{"pixels": [[0.0, 0.5, 1.0]]}', JSON, "", 400),
        (b'{"pixels": [[1e999]]}', JSON, "", 400),
        (b'{"pixels": []}', JSON, "", 400),
        (b'{"pixels": [[' + b"0," * 600 + b"0]]}", JSON, "", 400),
        (b" " * ((1 << 20) + 1), JSON, "", 413),
        (b"123", RAW, "?width=2&height=2", 400),
        (b"1", RAW, "?width=-1&height=-1", 400),
        (b"1", RAW, "?width=99999999999999999999&height=1", 400),
        (bytes(100), RAW, "?width=10&height=10&model=../../../etc/passwd", 404),
    ],
)
def test_bad_requests(port: int, content: bytes, kind: str, query: str, status: int) -> None:
    answered, answer = post(port, content, kind, query)
    assert answered == status
    assert set(answer) == {"error"}
    assert "Traceback" not in answer["error"]


def test_only_requests_to_its_own_address_are_answered(port: int) -> None:
    assert ask(port, "GET", "/", Host="evil.example")[0] == 421
    assert ask(port, "GET", "/", Host=f"localhost:{port}")[0] == 200
    assert post(port, bytes(1), RAW, "?width=1&height=1", Origin="http://evil.example")[0] == 403
    assert (
        post(port, bytes(1), RAW, "?width=1&height=1", Origin=f"http://localhost:{port}")[0] == 200
    )


def test_no_other_file_is_served(port: int) -> None:
    for path in ("/../guard.py", "/%2e%2e/server.py", "/etc/passwd", "//etc/passwd", "/web/app.js"):
        assert ask(port, "GET", path)[0] == 404
    assert ask(port, "POST", "/")[0] == 405


def test_the_page_loads_nothing_from_other_hosts(port: int) -> None:
    for path, kind in (
        ("/", "text/html"),
        ("/app.js", "text/javascript"),
        ("/style.css", "text/css"),
    ):
        status, headers, body = ask(port, "GET", path)
        assert status == 200
        assert headers["content-type"].startswith(kind)
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert "unsafe" not in headers["content-security-policy"]
        assert b"http://" not in body.replace(b"http://www.w3.org", b"")
        assert b"https://" not in body


def test_an_endpoint_that_fails_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    application = app(cast(Service, None), "run", Hosts(frozenset({"localhost"})))
    scope = {"type": "http", "method": "GET", "path": "/api/models", "query_string": b"",
             "headers": [(b"host", b"localhost")]}  # fmt: skip
    asyncio.run(application(scope, receive, send))
    assert (sent[0]["status"], len(sent)) == (500, 2)
    assert "error" in json.loads(sent[1]["body"])
    assert capsys.readouterr().err.startswith("a request failed: AttributeError: ")


def test_an_endless_body_is_cut_off(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(
            b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        piece = b"100000\r\n" + bytes(1 << 20) + b"\r\n"
        reply = b""
        with contextlib.suppress(OSError):  # the server closes while we send
            for _ in range(40):
                connection.sendall(piece)
        with contextlib.suppress(OSError):
            reply = connection.recv(100)
        assert reply == b"" or reply.split()[1] == b"413"
    status, _, _ = ask(port, "POST", "/api/predict", Content_Length=str(100 << 20))
    assert status == 413
    assert ask(port, "GET", "/")[0] == 200


@pytest.mark.service
def test_a_slow_body_is_rejected(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(
            b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nx"
        )
        begin = time.monotonic()
        assert connection.recv(100).split()[1] == b"408"
        assert time.monotonic() - begin < 30


@pytest.mark.service
def test_connections_are_kept_between_requests(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for pause in (0, 6):  # uvicorn's default closes after 5 s
        time.sleep(pause)
        connection.request("GET", "/icon.svg")
        assert connection.getresponse().read()
    connection.close()
