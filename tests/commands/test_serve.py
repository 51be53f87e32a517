"""`harness serve`: which networks it offers, and its errors.

The page and the API are tested in tests/recognizer.
"""

import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.commands.serve import serve
from harness.nn import metrics
from harness.runfolder.run import Run
from tests.conftest import command_in, run_folders
from tests.recognizer.test_decoding import slow
from tests.recognizer.test_server import ask, encoded_png, port, post, served  # noqa: F401

# ruff: noqa: F811


@pytest.mark.service
@pytest.mark.filterwarnings("ignore")
def test_runs_of_a_tracking_store_can_be_selected(outputs: Path, tmp_path: Path) -> None:
    done = command_in(tmp_path)("harness.run", "epochs=1", "width=16")
    assert done.returncode == 0, done.stderr
    (folder,) = run_folders(tmp_path / "outputs")
    uri = f"sqlite:///{tmp_path}/outputs/mlflow.db"
    with served("--outputs", str(outputs), "--uri", uri) as number:
        models = json.loads(ask(number, "GET", "/api/models")[2])["models"]
        assert len(models) == 2
        error = Run(folder).history().final[metrics.BEST_VAL_ERROR]
        name = f"epochs=1,width=16, validation error {error:.2%}"
        assert models[1] == {"id": folder.name, "name": name}
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
def test_a_missing_store_is_one_line(
    outputs: Path, tmp_path: Path, uri: str, words: tuple[str, ...]
) -> None:
    more = ("--outputs", str(outputs), "--uri", uri)
    done = command_in(tmp_path)("harness", *words, *more, timeout=60)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("error: ")
    assert uri.removeprefix("sqlite:///") in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.service
def test_all_addresses_are_answered_and_ctrl_c_ends_a_hostile_picture(outputs: Path) -> None:
    arguments = ("--host", "0.0.0.0", "--port", "0", "--allow-host", "Box.example")
    server = subprocess.Popen(
        [sys.executable, "-m", "harness", "serve", "--outputs", outputs, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert server.stdout is not None
    match = re.match(r"draw at http://127.0.0.1:(\d+), from other", server.stdout.readline())
    assert match is not None
    number = int(match[1])
    for host, status in (
        ("192.0.2.7", 200),
        ("[2001:db8::7]:80", 200),
        (socket.gethostname(), 200),
        ("box.example:80", 200),
        ("evil.example", 421),
    ):
        assert ask(number, "GET", "/", Host=host)[0] == status, host
    with ThreadPoolExecutor(3) as clients:
        answers = [clients.submit(post, number, slow(), "image/png") for _ in range(3)]
        time.sleep(1)
        begin = time.monotonic()
        server.send_signal(signal.SIGINT)
        out, err = server.communicate(timeout=60)
        assert time.monotonic() - begin < 5
        assert (server.returncode, out, err) == (0, "ended\n", "")
        assert all(answer.exception() or answer.result()[0] != 200 for answer in answers)


@pytest.mark.service
@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
def test_an_ipv6_address(outputs: Path) -> None:
    server = subprocess.Popen(
        [sys.executable, "-m", "harness", "serve", "--outputs", outputs, "--host", "::1",
         "--port", "0"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert server.stdout is not None
    url = server.stdout.readline().split()[2]
    assert url.startswith("http://[::1]:")
    with urllib.request.urlopen(url, timeout=30) as page:
        assert page.status == 200
    server.send_signal(signal.SIGTERM)
    server.communicate(timeout=30)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--port", "99999"), "99999 is not in the range"),
        (("--port", "-1"), "-1 is not in the range"),
        (("--host", "nowhere.invalid"), "cannot listen at --host nowhere.invalid"),
        (("--host", "192.0.2.7"), "cannot listen at --host 192.0.2.7"),
        (("--host", ""), "--host"),
        (("--host", "a" * 100), "expected an address or a name"),
    ],
)
def test_an_impossible_address_is_refused(arguments: tuple[str, ...], problem: str) -> None:
    done = CliRunner().invoke(serve, list(arguments))
    assert done.exit_code == 2
    assert problem in done.stderr
    assert "Traceback" not in done.output


def test_a_port_in_use_is_one_line(port: int, outputs: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "harness", "serve", "--outputs", outputs, "--port", str(port)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert f"--port {port}: already in use" in done.stderr
