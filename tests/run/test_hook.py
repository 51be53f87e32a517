"""What is called at the end of a command, with a real server and real commands."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.run import hook
from tests.conftest import Command, free_port

CONTENT = {"format": "harness end", "runs": []}


@pytest.fixture
def server() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The address of a server, and what it was told."""
    told: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.headers["Content-Type"] == "application/json"
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200 if self.path == "/ok" else 500)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    listening = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{listening.server_port}", told
    listening.shutdown()
    thread.join()
    listening.server_close()


def test_an_address_gets_json(
    server: tuple[str, list[dict[str, Any]]], capsys: pytest.CaptureFixture[str]
) -> None:
    address, told = server
    hook.call(f"{address}/ok", CONTENT)
    assert told == [CONTENT]
    assert capsys.readouterr().err == ""
    hook.call(f"{address}/broken", CONTENT)
    assert capsys.readouterr().err == "on_end: HTTP Error 500: Internal Server Error\n"
    hook.call(f"http://127.0.0.1:{free_port()}", CONTENT)
    assert "refused" in capsys.readouterr().err


def test_a_command_gets_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "told file.json"
    hook.call(f"cat > '{file}'", CONTENT)
    assert json.loads(file.read_text()) == CONTENT
    hook.call("exit 3", CONTENT)
    assert capsys.readouterr().err == "on_end: 'exit 3' ended with exit status 3\n"


def test_a_command_that_hangs_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hook, "COMMAND_S", 0.2)
    hook.call(f"sleep 20 & echo $! > '{tmp_path}/pid'; wait", CONTENT)
    assert capsys.readouterr().err.endswith("was stopped after 0.2 s\n")
    pid = int((tmp_path / "pid").read_text())
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_other_addresses_are_refused() -> None:
    with pytest.raises(ValueError, match="on_end=ftp://host: expected an http or https address"):
        hook.check("ftp://host")
    hook.check("notify-send 'see http://host'")
    hook.check("https://host/path")


def test_once_per_command(command: Command, tmp_path: Path, idx_folder: Path) -> None:
    own = ("dataset=idx", f"dataset.dir={idx_folder}", "dataset.num_val=40", "epochs=1", "width=8",
           "tracking=none", "on_end=(cat; echo) >> told.json")  # fmt: skip
    done = command("harness.run", "-m", *own, "seed=1,2", "name=pilot")
    assert done.returncode == 0, done.stderr
    (line,) = (tmp_path / "told.json").read_text().splitlines()
    told = json.loads(line)
    assert (told["status"], told["exit_status"], told["name"]) == ("DONE", 0, "pilot")
    assert Path(tmp_path / told["report"]).is_file()
    assert [run["status"] for run in told["runs"]] == ["FINISHED"] * 2
    assert all(0 <= run["test"] <= 1 for run in told["runs"])
    assert not any("on_end" in text for text in told["command"])
    done = command("harness.run", *own, "lr=1e30", "activation=relu")
    assert done.returncode == 1
    told = json.loads((tmp_path / "told.json").read_text().splitlines()[1])
    assert (told["status"], told["sweep"]) == ("FAILED", None)
    assert told["runs"][0]["error"]
    done = command("harness.run", *own[:-1], "on_end=exit 1")
    assert done.returncode == 0, "a failure there changes nothing"
    assert "on_end: 'exit 1' ended with exit status 1" in done.stderr
