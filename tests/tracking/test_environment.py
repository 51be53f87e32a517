"""Variables of MLflow that change what a call does are neutralized; no process phones home."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.runfolder.target import Target
from harness.tracking import environment
from harness.tracking.errors import Hopeless, StoreError, answers
from tests.conftest import free_port, python_path, small

# Writes the address of every connection and name resolution that leaves this machine.
WATCH = """
import os, sys
def watch(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if host and not host.startswith("127.") and host not in ("localhost", "::1", "0.0.0.0", "::"):
        with open(os.environ["CONNECTIONS"], "a") as file:
            file.write(f"{host} {sys.argv}\\n")
sys.addaudithook(watch)
"""
# MLflow sends nothing where it finds one of these.
CI = ("CI", "GITHUB_ACTIONS", "GITLAB_CI", "JENKINS_URL", "PYTEST_CURRENT_TEST", "TF_BUILD")


def test_what_changes_a_call_is_removed() -> None:
    variables = {
        "MLFLOW_ENABLE_ASYNC_LOGGING": "true",
        "MLFLOW_EXPERIMENT_ID": "7",
        "MLFLOW_RUN_ID": "x",
        "MLFLOW_TRUNCATE_LONG_VALUES": "true",
        "MLFLOW_TRACKING_DIR": "/elsewhere",
        "_MLFLOW_TESTING_TELEMETRY": "true",
        "HOME": "/home/me",
    }
    environment.set_up(variables)
    assert variables.pop("HOME") == "/home/me"
    assert variables.pop("DO_NOT_TRACK") == "true"
    fixed = environment.FIXED | environment.DEFAULTS | {"MLFLOW_DISABLE_TELEMETRY": "true"}
    assert variables == fixed
    assert variables["MLFLOW_ENABLE_ASYNC_LOGGING"] == "false"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MLFLOW_TRACKING_TOKEN", "t\u00f6k\u00e9n"), ("MLFLOW_TRACKING_TOKEN", "a\nb"),
        ("MLFLOW_WORKSPACE", "\u65e5"), ("MLFLOW_TRACKING_PASSWORD", "t\udcf6k"),
    ],
)  # fmt: skip
def test_a_value_that_no_server_can_get_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    server = Target(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(Hopeless) as found, answers(server):
        raise RuntimeError("'latin-1' codec can't encode characters")
    assert str(found.value).startswith(f"{server}: {name} cannot be sent to a server: expected ")
    assert value not in str(found.value)
    with pytest.raises(StoreError, match="codec"), answers(Target("sqlite:///x.db")):
        raise RuntimeError("'latin-1' codec can't encode characters")


def test_what_a_server_can_get_is_not_blamed() -> None:
    fine = {"MLFLOW_TRACKING_TOKEN": "a-b.c~+/=", "MLFLOW_TRACKING_PASSWORD": "\u65e5 \t"}
    assert environment.unsendable(fine) is None


@pytest.mark.parametrize(
    "name",
    [
        "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD",
        "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_INSECURE_TLS", "MLFLOW_S3_ENDPOINT_URL",
        "MLFLOW_TRACKING_CLIENT_CERT_PATH", "MLFLOW_TRACKING_SERVER_CERT_PATH",
        "MLFLOW_HTTP_REQUEST_TIMEOUT", "AWS_PROFILE", "AZURE_STORAGE_CONNECTION_STRING",
        "GOOGLE_APPLICATION_CREDENTIALS", "MLFLOW_REGISTRY_URI", "MLFLOW_FLASK_SERVER_SECRET_KEY",
        "MLFLOW_ENABLE_MULTIPART_UPLOAD", "MLFLOW_MULTIPART_DOWNLOAD_CHUNK_SIZE",
    ],
)  # fmt: skip
def test_what_reaches_a_store_is_kept(name: str) -> None:
    variables = {name: "value"}
    environment.set_up(variables)
    assert variables[name] == "value"


def test_telemetry_is_the_choice_of_a_user_who_makes_one() -> None:
    variables = {"MLFLOW_DISABLE_TELEMETRY": "false"}
    environment.set_up(variables)
    assert variables["MLFLOW_DISABLE_TELEMETRY"] == "false"
    assert "DO_NOT_TRACK" not in variables


COMMAND = """
import os, atexit, sys
from harness import __main__ as command
sys.argv = ["harness", "--help"]
atexit.register(lambda: print(os.environ["MLFLOW_ENABLE_ASYNC_LOGGING"]))
command.console_script()
"""
NOTEBOOK = """
import os
import harness.tracking.store, harness.tracking.sync, harness.tracking.delivery
print(os.environ["MLFLOW_ENABLE_ASYNC_LOGGING"])
"""


@pytest.mark.parametrize(("code", "expected"), [(COMMAND, "false"), (NOTEBOOK, "true")])
def test_a_command_changes_its_environment_an_import_does_not(code: str, expected: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"MLFLOW_ENABLE_ASYNC_LOGGING": "true"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.endswith(f"{expected}\n")


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of all connections that child processes try; it looks like no CI to them."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook/sitecustomize.py").write_text(WATCH)
    for name, value in python_path(tmp_path / "hook").items():
        monkeypatch.setenv(name, value)
    for name in (*CI, "MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        monkeypatch.delenv(name, raising=False)
    connections = tmp_path / "connections"
    connections.touch()
    monkeypatch.setenv("CONNECTIONS", str(connections))
    return connections


@pytest.mark.service
def test_nothing_leaves_this_machine(tmp_path: Path, idx_folder: Path, watched: Path) -> None:
    """A run, `sync` and the UI; and the watch itself does see MLflow's telemetry."""
    variables = {k: v for k, v in os.environ.items() if k not in CI}

    def command(*words: str, **more: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", *words], cwd=tmp_path, env=variables | more, capture_output=True
        )
        assert done.returncode == 0, done.stderr

    command("harness.run", *small(idx_folder, "epochs=1"))
    command("harness", "sync")
    port = free_port()
    with subprocess.Popen(
        [sys.executable, "-m", "harness", "ui", "--port", str(port)],
        cwd=tmp_path, env=variables, stdout=subprocess.PIPE, text=True,
    ) as ui:  # fmt: skip
        assert ui.stdout is not None
        assert "the MLflow UI is at" in ui.stdout.readline()
        ui.send_signal(signal.SIGINT)
    assert watched.read_text() == ""
    more = small(idx_folder, "epochs=1", "seed=2")
    command("harness.run", *more, MLFLOW_DISABLE_TELEMETRY="false")
    assert "mlflow" in watched.read_text()
