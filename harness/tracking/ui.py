"""The MLflow UI on loopback, with the settings that make it light."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from harness.runfolder.target import Target

HOST = "127.0.0.1"
START_S = 120.0


@contextmanager
def serve(target: Target, port: int) -> Iterator[str]:
    """Run the UI of a store while the block runs; gives its address.

    Raises `ValueError` when the port is taken, `RuntimeError` when the server does not come up. All
    of the server's processes are gone afterwards.
    """
    with socket.socket() as probe:
        if probe.connect_ex((HOST, port)) == 0:
            raise ValueError(f"--port {port}: something listens there already; choose another port")
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port)]
    command += ["--workers", "1"]
    if target.artifact_root:
        command += ["--default-artifact-root", target.artifact_root]
    environment = os.environ | {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_BACKEND_STORE_URI": target.uri,  # an argument would show its password to `ps`
    }
    process = psutil.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait(process, f"http://{HOST}:{port}/health")
        yield f"http://{HOST}:{port}"
    finally:
        _end(process)


def _wait(process: psutil.Popen, address: str) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the MLflow server ended with status {process.returncode}")
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(f"the MLflow server did not answer at {address} within {START_S:.0f} s")


def _end(process: psutil.Popen) -> None:
    try:
        family = [*process.children(recursive=True), process]
    except psutil.NoSuchProcess:
        return
    for member in family:
        try:
            member.terminate()
        except psutil.NoSuchProcess:
            continue
    _, alive = psutil.wait_procs(family, timeout=5)
    for member in alive:
        member.kill()
    psutil.wait_procs(alive, timeout=5)
