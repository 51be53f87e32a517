"""The MLflow UI as a child process: a taken port, a server that dies, nothing left behind."""

import socket
from pathlib import Path

import psutil
import pytest

from harness.runfolder.target import Target
from harness.tracking import ui
from harness.tracking.store import Store
from tests.conftest import free_port


def test_a_taken_port_is_one_line(tmp_path: Path) -> None:
    with socket.create_server((ui.HOST, 0)) as listener:
        port = listener.getsockname()[1]
        with (
            pytest.raises(ValueError, match=rf"--port {port}: something listens there already"),
            ui.serve(Target.local(tmp_path), port),
        ):
            pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.service
def test_a_server_that_ends_is_an_error(tmp_path: Path) -> None:
    children = psutil.Process().children()
    with (
        pytest.raises(RuntimeError, match="the MLflow server ended with status"),
        ui.serve(Target("no-such-database://x"), free_port()),
    ):
        pass
    assert psutil.Process().children() == children


@pytest.mark.service
@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_the_ui_answers_while_the_block_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a proxy is set, which cannot reach this machine's loopback."""
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    port = free_port()
    others = set(psutil.Process().children(recursive=True))
    with ui.serve(Target.local(tmp_path), port) as address:
        assert address == f"http://127.0.0.1:{port}"
        with ui.OPENER.open(f"{address}/health", timeout=30) as answer:
            assert answer.status == 200
        ui.set_tag(address, "0", "key", "a value")
        with pytest.raises(OSError, match="HTTP Error 404"):
            ui.set_tag(address, "12345", "key", "a value")
        family = set(psutil.Process().children(recursive=True)) - others
    assert family
    assert not [member for member in family if member.is_running()]
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
    experiment = Store(Target.local(tmp_path)).client.get_experiment("0")
    assert experiment.tags["key"] == "a value"
