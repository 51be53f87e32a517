"""`python -m harness serve`: the page on loopback, for the networks of `outputs` and of a store."""

import socket
import sys
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from harness.commands import predict
from harness.nn import metrics
from harness.recognizer import loading as calibrate
from harness.recognizer import server
from harness.recognizer.recognizer import Recognizer
from harness.recognizer.server import Library
from harness.runfolder import folder as runs
from harness.runfolder import journal
from harness.tracking.reading import Reader
from harness.tracking.recorded import Recorded
from harness.tracking.store import StoreError
from harness.tracking.target import Target

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Shelf:
    """The networks that the page offers: the finished runs under `outputs`, and those of a store.

    uri: of a tracking store, if there is another one than that under `outputs`.
    """

    def __init__(self, outputs: Path, default: Recognizer, uri: str | None = None) -> None:
        self._outputs, self._default = outputs, default
        self._reader = Reader(Target(uri)) if uri else None

    def listing(self) -> list[dict[str, Any]]:
        """Every run with weights, newest first; the default one before them."""
        run = self._default.description["run"]
        names = {run: predict.source(self._default)}
        for folder in reversed(list(journal.folders(runs.folder_of(self._outputs)))):
            told = journal.history(folder)
            if told.status == "FINISHED" or folder.name == run:
                _add(names, folder.name, told.create["name"], told.final)
        for each in reversed(self._stored()):
            if each.tags.get("run.id") == each.run:  # not one of somebody else's program
                _add(names, each.run, each.name, each.final)
        return [{"id": run, "name": name} for run, name in names.items()]

    def load(self, run: str) -> Recognizer:
        """The network of a run of the listing. Raises `ValueError`."""
        folder = runs.folder_of(self._outputs) / run
        if folder.is_dir() or self._reader is None:
            return calibrate.load_run(folder)
        try:
            return calibrate.load_stored(self._reader, run)
        except StoreError as error:
            raise ValueError(str(error)) from error

    def _stored(self) -> list[Recorded]:
        try:
            return self._reader.finished() if self._reader is not None else []
        except StoreError as error:  # the page goes on with what is here
            print(error, file=sys.stderr, flush=True)
            return []


def _add(names: dict[str, str], run: str, name: str, final: dict[str, float]) -> None:
    error = final.get(metrics.BEST_VAL_ERROR)
    figure = "" if error is None else f", validation error {error:.2%}"
    if run not in names:
        names[run] = f"{name}{figure}"
    elif not names[run].endswith(figure):
        names[run] += figure


def serve(outputs: Path, default: Recognizer, host: str, port: int, uri: str | None = None) -> None:
    """Serve until interrupted. Raises `ValueError` when the port is taken."""
    with socket.socket() as probe:
        if probe.connect_ex((host, port)) == 0:
            raise ValueError(f"--port {port}: something listens there already; choose another port")
    try:
        shelf = Shelf(outputs, default, uri)
    except StoreError as error:
        raise ValueError(str(error)) from error
    library = Library(listing=shelf.listing, load=shelf.load)
    with threadpool_limits(limits=1):  # one core answers; a second thread costs more than it brings
        server.serve(server.app(library, default, {host, *LOOPBACK}), host, port)
