"""The networks that the page offers: the finished runs in `outputs` and in a tracking store."""

import sys
from pathlib import Path
from typing import Any

from harness.recognizer import loading, recognizer
from harness.recognizer.recognizer import Recognizer
from harness.runfolder.folder import all_runs, open_run
from harness.runfolder.history import ARCHIVED
from harness.runfolder.objective import Objective
from harness.runfolder.target import Target
from harness.tracking.errors import StoreError
from harness.tracking.reading import Reader
from harness.tracking.recorded import Recorded


class Library:
    """Networks by run id. uri: a tracking store to list in addition to the runs in `outputs`.

    Raises `StoreError` if that store cannot be opened.
    """

    def __init__(self, outputs: Path, default: Recognizer, uri: str | None = None) -> None:
        self._outputs, self.default = outputs, default
        self._reader = Reader(Target(uri)) if uri else None

    def list_networks(self) -> list[dict[str, Any]]:
        """`id` and `name` of every finished run on pictures: the default first, then the newest.

        Archived runs are omitted. Local runs come before those of the tracking store.
        """
        names = {self.default.run_id: self.default.source}
        for run in reversed(all_runs(self._outputs)):
            is_listed = run.is_finished and not run.is_archived
            if is_listed or run.id == self.default.run_id:
                history = run.history()
                if not recognizer.reads_pictures(history.create["dataset"]):
                    continue
                _add(names, run.id, history.name, history.final, Objective.of(history.params))
        for recorded in reversed(self._stored()):
            is_own = recorded.tags.get("run.id") == recorded.run  # else not of this harness
            is_listed = recorded.tags.get(ARCHIVED) != "true"
            if is_own and is_listed and recognizer.reads_pictures(recorded.dataset):
                objective = Objective.of(recorded.params)
                _add(names, recorded.run, recorded.name, recorded.final, objective)
        return [{"id": run, "name": name} for run, name in names.items()]

    def load(self, run_id: str) -> Recognizer:
        """Load the network of a listed run. Raises `ValueError`."""
        run = open_run(self._outputs, run_id)
        if run.folder.is_dir() or self._reader is None:
            return loading.load_run(run)
        try:
            return loading.load_stored(self._reader, run_id)
        except StoreError as error:
            raise ValueError(str(error)) from error

    def _stored(self) -> list[Recorded]:
        """The finished runs of the store; none, with a message, while it is unavailable."""
        try:
            return self._reader.finished() if self._reader is not None else []
        except StoreError as error:
            print(error, file=sys.stderr, flush=True)
            return []


def _add(
    names: dict[str, str], run_id: str, name: str, final: dict[str, float], objective: Objective
) -> None:
    """Add a run under its name and best value; only the value if it is listed already."""
    best = final.get(objective.best_key)
    suffix = "" if best is None else f", {objective.title} {objective.format(best)}"
    if run_id not in names:
        names[run_id] = f"{name}{suffix}"
    elif not names[run_id].endswith(suffix):
        names[run_id] += suffix
