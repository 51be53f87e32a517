"""The JSON API as a client meets it, over a real connection to the real command."""

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
from typing import Any

import numpy as np
import pytest

from harness.nn import metrics
from harness.recognizer import preprocess
from harness.recognizer.recognizer import Recognizer
from harness.runfolder.run import Run
from tests.commands.test_ui import free_port
from tests.conftest import command_in, run_folders
from tests.recognizer.test_picture import DRAWING, encoded, png

RAW, JSON = "application/octet-stream", "application/json"


@pytest.fixture(scope="module")
def port(outputs: Path) -> Iterator[int]:
    """Where `python -m harness serve` answers."""
    with served("--outputs", str(outputs)) as number:
        yield number


@contextlib.contextmanager
def served(*arguments: str) -> Iterator[int]:
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
    found = reply.status, dict(reply.getheaders()), reply.read()
    connection.close()
    return found


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
        assert np.array_equal(seen, preprocess.find(DRAWING).image)
        assert answer["model"] == trained.description["run"]


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
    found = json.loads(body)
    assert status == 200
    assert found["default"] == trained.description["run"]
    assert [each["id"] for each in found["models"]] == [found["default"]]


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
    found, answer = post(port, content, kind, query)
    assert found == status
    assert set(answer) == {"error"}
    assert "Traceback" not in answer["error"]


def test_only_its_own_address_is_answered(port: int) -> None:
    assert ask(port, "GET", "/", Host="evil.example")[0] == 421
    assert ask(port, "GET", "/", Host=f"localhost:{port}")[0] == 200
    assert post(port, bytes(1), RAW, "?width=1&height=1", Origin="http://evil.example")[0] == 403
    assert (
        post(port, bytes(1), RAW, "?width=1&height=1", Origin=f"http://localhost:{port}")[0] == 200
    )


def test_no_way_to_files(port: int) -> None:
    for path in ("/../guard.py", "/%2e%2e/server.py", "/etc/passwd", "//etc/passwd", "/web/app.js"):
        assert ask(port, "GET", path)[0] == 404
    assert ask(port, "POST", "/")[0] == 405


def test_the_page_may_load_nothing_foreign(port: int) -> None:
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


def test_a_body_without_end_is_cut_off(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(
            b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        piece = b"100000\r\n" + bytes(1 << 20) + b"\r\n"
        reply = b""
        with contextlib.suppress(OSError):  # closed on us in the middle of sending
            for _ in range(40):
                connection.sendall(piece)
        with contextlib.suppress(OSError):
            reply = connection.recv(100)
        assert reply == b"" or reply.split()[1] == b"413"
    status, _, _ = ask(port, "POST", "/api/predict", Content_Length=str(100 << 20))
    assert status == 413
    assert ask(port, "GET", "/")[0] == 200


@pytest.mark.service
def test_a_slow_body_is_given_up(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(
            b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nx"
        )
        begin = time.monotonic()
        assert connection.recv(100).split()[1] == b"408"
        assert time.monotonic() - begin < 30


@pytest.mark.service
@pytest.mark.parametrize("head", [b"", b"GET / HTTP/1.1\r\nHos"])
def test_a_connection_without_a_whole_request_is_closed(port: int, head: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        begin = time.monotonic()
        connection.sendall(head)
        assert connection.recv(100) == b""
        assert time.monotonic() - begin < 30


@pytest.mark.service
def test_connections_are_kept_between_requests(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for pause in (0, 6, 6, 6):  # in all longer than a silent one may stay
        time.sleep(pause)
        connection.request("GET", "/icon.svg")
        assert connection.getresponse().read()
    connection.close()


@pytest.mark.service
@pytest.mark.filterwarnings("ignore")
def test_runs_of_a_tracking_store_can_be_picked(outputs: Path, tmp_path: Path) -> None:
    done = command_in(tmp_path)("harness.run", "epochs=1", "width=16")
    assert done.returncode == 0, done.stderr
    (folder,) = run_folders(tmp_path / "outputs")
    uri = f"sqlite:///{tmp_path}/outputs/mlflow.db"
    with served("--outputs", str(outputs), "--uri", uri) as number:
        models = json.loads(ask(number, "GET", "/api/models")[2])["models"]
        assert len(models) == 2
        error = Run(folder).history().final[metrics.BEST_VAL_ERROR]
        told = {"id": folder.name, "name": f"epochs=1,width=16, validation error {error:.2%}"}
        assert models[1] == told
        status, answer = post(number, encoded_png(), "image/png", f"?model={folder.name}")
        assert (status, answer["model"]) == (200, folder.name)
    again = command_in(tmp_path)(
        "harness", "predict", "--uri", uri, "--run", "last", str(tmp_path / "none.png")
    )
    assert "'last'" in again.stderr
    (tmp_path / "digit.png").write_bytes(encoded_png())
    again = command_in(tmp_path)(
        "harness", "predict", "--uri", uri, "--run", folder.name[:6], "digit.png"
    )
    assert (again.returncode, again.stderr) == (0, "")
    assert f"run {folder.name}" in again.stdout


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "sqlite:///none.db"])
@pytest.mark.parametrize("words", [("serve",), ("predict", "--run", "abc", "x.png")])
def test_a_store_that_is_not_there_is_one_line(
    outputs: Path, tmp_path: Path, uri: str, words: tuple[str, ...]
) -> None:
    more = ("--outputs", str(outputs), "--uri", uri)
    done = command_in(tmp_path)("harness", *words, *more, timeout=60)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("error: ")
    assert uri.removeprefix("sqlite:///") in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_taken_port_is_one_line(port: int, outputs: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "harness", "serve", "--outputs", outputs, "--port", str(port)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert f"--port {port}: already in use" in done.stderr
