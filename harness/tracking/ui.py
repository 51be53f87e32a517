"""Serve the MLflow UI on loopback in a process: `python -m harness.tracking.ui HOST PORT`.

It reads the store, a `Target` as JSON, from standard input, because `ps` would show the password in
an argument.
"""

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict

import psutil

from harness.runfolder import interpreter
from harness.runfolder.target import Target
from harness.tracking.mlflow_private import run_server

HOST = "127.0.0.1"
START_S = 120.0
TAG_S = 30.0
# Ignore HTTP_PROXY: a proxy cannot reach the loopback of this machine.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@contextmanager
def serve(target: Target, port: int) -> Iterator[str]:
    """Run the UI of a store while the block runs; yield its address.

    Raises `ValueError` if the port is taken, `RuntimeError` if the server does not start. All of
    the server's processes are ended afterwards.
    """
    with socket.socket() as probe:
        if probe.connect_ex((HOST, port)) == 0:
            raise ValueError(f"--port {port}: something listens there already; choose another port")
    process = psutil.Popen(
        [*interpreter.running("harness.tracking.ui"), HOST, str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        with suppress(BrokenPipeError), process.stdin:  # it died: `_wait` reports it
            process.stdin.write(json.dumps(asdict(target)))
        _wait(process, f"http://{HOST}:{port}/health")
        yield f"http://{HOST}:{port}"
    finally:
        _end(process)


def set_tag(address: str, experiment_id: str, key: str, value: str) -> None:
    """Set a tag of an experiment over HTTP, without importing MLflow. Raises `OSError`."""
    content = {"experiment_id": experiment_id, "key": key, "value": value}
    request = urllib.request.Request(
        f"{address}/api/2.0/mlflow/experiments/set-experiment-tag",
        json.dumps(content).encode(),
        {"Content-Type": "application/json"},
    )
    with OPENER.open(request, timeout=TAG_S):
        return


def _wait(process: psutil.Popen, address: str) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the MLflow server ended with status {process.returncode}")
        try:
            with OPENER.open(address, timeout=2):
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


def main() -> None:
    """The server's process."""
    target = Target(**json.loads(sys.stdin.read()))
    run_server(target, sys.argv[1], int(sys.argv[2]))


if __name__ == "__main__":
    main()
