"""`python -m harness serve`: the page on loopback, for the networks under `outputs`."""

import socket
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from harness import calibrate, predict, runs
from harness.nn import metrics
from harness.recognizer import server
from harness.recognizer.recognizer import Recognizer
from harness.recognizer.server import Library
from harness.training import journal

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def listing(outputs: Path, default: Recognizer) -> list[dict[str, Any]]:
    """Every finished run with weights, newest first; the default one before them."""
    run = default.description["run"]
    found = [{"id": run, "name": predict.source(default)}]
    for folder in reversed(list(journal.folders(runs.folder_of(outputs)))):
        told = journal.history(folder)
        error = told.final.get(metrics.BEST_VAL_ERROR)
        figure = "" if error is None else f", validation error {error:.2%}"
        if folder.name == run:
            found[0]["name"] += figure
        elif told.status == "FINISHED":
            found.append({"id": folder.name, "name": f"{told.create['name']}{figure}"})
    return found


def serve(outputs: Path, default: Recognizer, host: str, port: int) -> None:
    """Serve until interrupted. Raises `ValueError` when the port is taken."""
    with socket.socket() as probe:
        if probe.connect_ex((host, port)) == 0:
            raise ValueError(f"--port {port}: something listens there already; choose another port")
    library = Library(
        listing=lambda: listing(outputs, default),
        load=lambda run: calibrate.load_run(runs.folder_of(outputs) / run),
    )
    with threadpool_limits(limits=1):  # one core answers; a second thread costs more than it brings
        server.serve(server.app(library, default, {host, *LOOPBACK}), host, port)
