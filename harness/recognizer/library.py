"""The networks that the page offers: finished runs under `outputs`, and those of a store."""

import sys
from pathlib import Path
from typing import Any

from harness.nn import metrics
from harness.recognizer import loading
from harness.recognizer.recognizer import Recognizer
from harness.runfolder.folder import all_runs, open_run
from harness.runfolder.target import Target
from harness.tracking.reading import Reader
from harness.tracking.recorded import Recorded
from harness.tracking.store import StoreError


class Library:
    """The networks by run id. uri: of a tracking store, if another than the one in `outputs`.

    Raises `StoreError` when that store cannot be opened.
    """

    def __init__(self, outputs: Path, default: Recognizer, uri: str | None = None) -> None:
        self._outputs, self.default = outputs, default
        self._reader = Reader(Target(uri)) if uri else None

    def listing(self) -> list[dict[str, Any]]:
        """`id` and `name` of every run with weights, newest first; the default before them."""
        default = self.default.description["run"]
        names = {default: loading.describe_source(self.default)}
        for run in reversed(all_runs(self._outputs)):
            if run.is_finished or run.id == default:
                history = run.history()
                _add(names, run.id, history.name, history.final)
        for recorded in reversed(self._stored()):
            if recorded.tags.get("run.id") == recorded.run:  # else another program's
                _add(names, recorded.run, recorded.name, recorded.final)
        return [{"id": run, "name": name} for run, name in names.items()]

    def load(self, run_id: str) -> Recognizer:
        """The network of a run of the listing. Raises `ValueError`."""
        run = open_run(self._outputs, run_id)
        if run.folder.is_dir() or self._reader is None:
            return loading.load_run(run)
        try:
            return loading.load_stored(self._reader, run_id)
        except StoreError as error:
            raise ValueError(str(error)) from error

    def _stored(self) -> list[Recorded]:
        try:
            return self._reader.finished() if self._reader is not None else []
        except StoreError as error:  # the local runs are still offered
            print(error, file=sys.stderr, flush=True)
            return []


def _add(names: dict[str, str], run_id: str, name: str, final: dict[str, float]) -> None:
    error = final.get(metrics.BEST_VAL_ERROR)
    figure = "" if error is None else f", validation error {error:.2%}"
    if run_id not in names:
        names[run_id] = f"{name}{figure}"
    elif not names[run_id].endswith(figure):
        names[run_id] += figure
