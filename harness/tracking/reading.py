"""Read many runs of an MLflow store at once through its bulk endpoints.

One call returns a metric of up to 100 runs; run by run, a thousand runs would take minutes.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.runfolder import selection, versions
from harness.runfolder.about import SWEEP_NAME
from harness.runfolder.history import ARCHIVED, how_pruned
from harness.runfolder.objective import Objective
from harness.runfolder.selection import LAST, SINCE, since_ms
from harness.runfolder.status import RunStatus
from harness.runfolder.target import Target
from harness.tracking import mlflow_private
from harness.tracking.errors import StoreError, answers, first_line
from harness.tracking.mlflow_private import BULK_ROWS, BULK_RUNS
from harness.tracking.recorded import Missing, Recorded, more_elsewhere
from harness.tracking.store import PAGE, REPLACED, Store, is_deleted, pages, restoring
from harness.tracking.views import View, save_view

if TYPE_CHECKING:
    from mlflow.entities import Run

RUN_IDS = ("tags.`run.id`", "attributes.run_id")  # our id, and MLflow's
SWEEP_ID = re.compile(r"[A-Za-z0-9_-]{1,60}")  # a digest, or the name of a search
CALLS = 4  # at the same time, to a server with as many workers
# A quoted text, which stays as it is, or a key with a slash, which MLflow reads only in backticks.
TEXT_OR_KEY = re.compile(
    r"""'[^']*'|"[^"]*"|`[^`]*`|\b(metrics?|params?|parameters?|tags?)\.([\w.-]*/[\w./-]*)"""
)


@dataclass(frozen=True)
class Found:
    """What words select in a store: a title and the runs, oldest first.

    sweep, experiment: its id or name, if the words select one whole sweep or experiment.
    """

    title: str
    runs: list[Recorded]
    sweep: str = ""
    experiment: str = ""


class Reader:
    """Runs of an MLflow store, local or remote. Raises `StoreError` if it cannot be used."""

    def __init__(self, target: Target) -> None:
        if target.database is not None and not target.database.exists():
            raise StoreError(f"{target.database}: no results yet; start a run first")
        self.target = target
        self._store = Store(target)
        self._client = self._store.client
        with self._answers():
            self._experiments = {
                str(each.experiment_id): str(each.name)
                for each in self._store.experiments(deleted=False)
            }

    def newest_sweep(self) -> str:
        """The id of the last sweep that the newest run of any sweep joined."""
        sweeps = "tags.sweep != ''"
        newest = self._search(sweeps, limit=1)
        if newest and newest[0].tags.get(ARCHIVED) == "true":
            newest = self._listed(sweeps)[-1:]  # reads all runs, which takes longer
        if not newest:
            raise ValueError(
                f"{self.target}: no sweep yet; start one with `python -m harness.run -m ...`, "
                "or name an experiment or runs"
            )
        return newest[0].tags["sweep"].split(",")[-1]

    def select(self, words: Sequence[str]) -> Found:
        """The runs that the words select, see `harness.runfolder.selection`.

        `last` is the newest sweep, or the newest run without one. Raises `ValueError`.
        """
        names, given = selection.divided(words)
        also = self._checked(given)
        if not names:
            return Found(selection.title([], given), self._listed(also))
        chosen = [self._named(name, also) for name in names]
        if len(chosen) == 1 and not given:
            return chosen[0]
        runs = {run.location: run for each in chosen for run in each.runs}
        if len(names) > 1:
            runs = dict(sorted(runs.items(), key=lambda item: item[1].created_ms or 0))
        title = selection.title([each.title for each in chosen], given)
        return Found(title, list(runs.values()))

    def _checked(self, given: Sequence[str]) -> str:
        """The conditions as one MLflow filter. Raises `ValueError` if MLflow refuses one."""
        conditions = []
        for text in given:
            if since := SINCE.fullmatch(text):
                conditions.append(f"attributes.start_time >= {since_ms(since[1])}")
                continue
            conditions.append(TEXT_OR_KEY.sub(_in_backticks, text))
            try:
                self._search(conditions[-1], limit=1)
            except ValueError as error:
                raise ValueError(
                    f"{text!r} is not a filter that MLflow understands: {error}"
                ) from None
        return " and ".join(conditions)

    def _named(self, word: str, also: str) -> Found:
        if found := LAST.fullmatch(word):
            return self._last(int(found[1] or 0), also)
        for number, name in self._experiments.items():
            if word in (number, name):
                return Found(f"experiment {name}", self._listed(also, [number]), experiment=name)
        named = self._of_name(word, also) or self._sweep(word, also)
        return named or self._alone(self.run(word), also)

    def _alone(self, run: Recorded, also: str) -> Found:
        its = self._search(_and(f"attributes.run_id = '{run.location}'", also))
        return Found(f"run {run.run}", its)

    def _of_name(self, word: str, also: str) -> Found | None:
        """A sweep that the user gave this name, or all runs and sweeps that have it."""
        like = word.replace("'", "_")  # `_` matches any character; a filter cannot have quotes
        of_name, of_sweep = (
            f"attributes.run_name LIKE '{like}'",
            f"tags.`{SWEEP_NAME}` LIKE '{like}'",
        )
        runs = [run for run in self._listed(of_name) if run.name == word]
        of_sweeps = [run for run in self._listed(of_sweep) if run.tags[SWEEP_NAME] == word]
        if not runs and not of_sweeps:
            return None
        found, every = Found(f"name {word}", []), [*runs, *of_sweeps]
        sweeps = {run.tags.get("sweep", "").split(",")[-1] for run in of_sweeps}
        if len(sweeps) == 1 and not runs:
            found = self.sweep(sweeps.pop())
            every = found.runs
        by_location = {run.location: run for run in every}
        if also:
            kept = {run.location for run in self._listed(also)}
            by_location = {key: run for key, run in by_location.items() if key in kept}
        oldest_first = sorted(by_location.values(), key=lambda run: run.created_ms or 0)
        return replace(found, runs=oldest_first)

    def _last(self, back: int, also: str) -> Found:
        made: dict[str, Recorded] = {}  # by sweep or single run, its newest run
        for run in reversed(self._listed("")):
            made.setdefault(run.tags.get("sweep", "").split(",")[-1] or run.run, run)
            if len(made) > back:
                break
        if len(made) <= back:
            raise ValueError(f"last~{back}: {self.target} has {len(made)} sweeps and single runs")
        name, run = list(made.items())[back]
        if name == run.run:
            return self._alone(run, also)
        return self._sweep(name, also) or Found(f"sweep {name}", [], name)

    def sweep(self, sweep: str) -> Found:
        """A sweep; it can have no runs in this store."""
        return self._sweep(sweep) or Found(f"sweep {sweep}", [], sweep)

    def elsewhere(self, runs: list[Recorded]) -> list[str]:
        """Notes on sweeps that have some of these runs and more in other experiments."""
        sweeps = {each for run in runs for each in run.tags.get("sweep", "").split(",") if each}
        others = [*self._experiments.keys() - {run.experiment for run in runs}]
        notes = []
        for sweep in sorted(sweeps) if others else ():
            found = self._search(f"tags.sweep LIKE '%{sweep}%'", others)
            its = [run for run in found if sweep in run.tags["sweep"].split(",")]
            names = sorted({repr(self._experiments[run.experiment]) for run in its})
            if its:
                notes.append(more_elsewhere(sweep, len(its), names))
        return notes

    def run(self, word: str) -> Recorded:
        """The run whose id, or MLflow id, starts with `word`. Raises `ValueError`."""
        is_id = re.fullmatch(r"[\w.-]+", word)
        matches: dict[str, Recorded] = {}
        for key in RUN_IDS if is_id else ():
            matches |= {each.location: each for each in self._search(f"{key} LIKE '{word}%'")}
        if not matches:
            if is_id and (deleted := self._deleted(word)):
                raise ValueError(deleted)
            raise ValueError(
                f"{word!r} is not a sweep, an experiment, a name or a run in {self.target}, nor "
                "a filter such as \"params.batch = '16'\""
            )
        if len(matches) > 1:
            names = ", ".join(sorted(each.run for each in matches.values())[:5])
            raise ValueError(f"run {word!r} could be {names}; type more of it")
        return next(iter(matches.values()))

    def _deleted(self, word: str) -> str | None:
        """One line about a deleted run with this id in the store; None if there is none.

        A run that was removed for good is unknown here, too.
        """
        with self._answers():
            experiments = {each.experiment_id: each for each in self._store.experiments()}
            for key in RUN_IDS:
                found = self._store.runs(list(experiments), f"{key} LIKE '{word}%'", deleted=True)
                for run in found:
                    if not is_deleted(run) or REPLACED in run.data.tags:
                        continue
                    number = run.info.experiment_id
                    how = f"runs restore --run-id {run.info.run_id}"
                    if experiments[number].lifecycle_stage == "deleted":
                        how = f"experiments restore --experiment-id {number}"
                    return (
                        f"run {run.data.tags.get('run.id', run.info.run_id)} was deleted in MLflow "
                        f"({self.target}); {restoring(self.target, how)}"
                    )
        return None

    def finished(self) -> list[Recorded]:
        """Every finished run, oldest first."""
        return self._search("attributes.status = 'FINISHED'")

    def add_curves(self, runs: Iterable[Recorded], keys: Iterable[str]) -> None:
        """Fill in the curves of these metrics, up to a hundred runs per call."""
        every = list(runs)
        for key in keys:
            asked = {
                run.location: run for run in every if key in run.final and key not in run.curves
            }
            rows: dict[str, dict[int, tuple[int, float]]] = {mlflow_id: {} for mlflow_id in asked}
            with self._answers():
                for mlflow_id, step, ms, value in self._histories(list(asked), key):
                    if (
                        ms >= rows[mlflow_id].get(step, (0, 0.0))[0]
                    ):  # the newest value of a step counts
                        rows[mlflow_id][step] = (ms, value)
            for mlflow_id, run in asked.items():
                steps = rows[mlflow_id]
                run.epochs[key] = np.array(sorted(steps), np.int64)
                run.curves[key] = np.array([steps[step][1] for step in sorted(steps)])

    def fetch(self, run: Recorded, path: str, into: Path) -> Path:
        """Download an artifact."""
        into.mkdir(parents=True, exist_ok=True)
        try:
            with answers(self.target):
                return Path(self._client.download_artifacts(run.location, path, str(into)))
        except StoreError as error:
            raise Missing(f"{run.run}: the artifact {path} is missing ({error})") from error

    def attach(self, run: Recorded, files: list[Path], folder: str) -> None:
        """Upload files. Raises `StoreError`."""
        with self._answers():
            for path in files:
                self._client.log_artifact(run.location, str(path), folder)

    def save_view(self, run: Recorded, sweep: str, params: Iterable[str]) -> None:
        """Store the view of a sweep with the experiment of one of its runs. Raises `ValueError`."""
        view = View(sweep, list(params), str(Objective.of(run.params)))
        save_view(self._client, run.experiment, view)

    def _sweep(self, word: str, also: str = "") -> Found | None:
        if not SWEEP_ID.fullmatch(word):
            return None
        runs = self._search(_and(f"tags.sweep LIKE '%{word}%'", also))
        ids = {i for run in runs for i in run.tags["sweep"].split(",") if i.startswith(word)}
        ids = {word} if word in ids else ids
        if len(ids) > 1:
            raise ValueError(f"sweep {word!r} could be {', '.join(sorted(ids)[:5])}")
        if not ids:
            return None
        (sweep,) = ids
        its = [run for run in runs if sweep in run.tags["sweep"].split(",")]
        return Found(f"sweep {sweep}", its, sweep)

    def _listed(self, condition: str, experiments: list[str] | None = None) -> list[Recorded]:
        """Like `_search`, without archived runs."""
        found = self._search(condition, experiments)
        return [run for run in found if run.tags.get(ARCHIVED) != "true"]

    def _search(
        self, condition: str, experiments: list[str] | None = None, limit: int | None = None
    ) -> list[Recorded]:
        order = ["attributes.start_time DESC"] if limit else ["attributes.start_time ASC"]
        search = partial(
            self._client.search_runs, experiments or list(self._experiments), condition,
            max_results=limit or PAGE, order_by=order,
        )  # fmt: skip
        with self._answers():
            return [_recorded(run) for run in (search() if limit else pages(search))]

    @contextmanager
    def _answers(self) -> Iterator[None]:
        """Raise `StoreError` if the store does not answer, and `ValueError` for a bad query."""
        try:
            with answers(self.target):
                yield
        except StoreError as error:
            if error.code == "INVALID_PARAMETER_VALUE":
                raise ValueError(first_line(error.__cause__ or error)) from error
            raise

    def _histories(self, ids: list[str], key: str) -> Iterator[tuple[str, int, int, float]]:
        """MLflow id, step, timestamp and value of every point of a metric.

        A server has several workers that answer at the same time; a database file does not.
        """
        calls = [ids[start : start + BULK_RUNS] for start in range(0, len(ids), BULK_RUNS)]
        with ThreadPoolExecutor(CALLS if self.target.database is None else 1) as pool:
            for rows in pool.map(partial(self._bulk, key=key), calls):
                yield from rows

    def _bulk(self, ids: list[str], key: str) -> list[tuple[str, int, int, float]]:
        if len(ids) == 1:
            points = self._client.get_metric_history(ids[0], key)
            return [(ids[0], point.step, point.timestamp, point.value) for point in points]
        rows = mlflow_private.metric_history(self._client, ids, key)
        if len(rows) < BULK_ROWS:
            return rows
        half = len(ids) // 2  # the answer was silently truncated
        return self._bulk(ids[:half], key) + self._bulk(ids[half:], key)


def _and(condition: str, also: str) -> str:
    return f"{condition} and {also}" if also else condition


def _in_backticks(found: "re.Match[str]") -> str:
    kind, key = found.groups()
    return f"{kind}.`{key}`" if key else found[0]


def dataset_of(run: "Run") -> dict[str, Any]:
    """The data set of an MLflow run, as in its create record; empty if unknown."""
    dataset: dict[str, Any] = {}
    inputs = [given.dataset for given in run.inputs.dataset_inputs] if run.inputs else []
    if "run.id" not in run.data.tags:  # another program's run, which can log several
        names, digests = ({getattr(each, key) for each in inputs} for key in ("name", "digest"))
        known = {"name": ", ".join(sorted(names)), "sha256": "+".join(sorted(digests))}
        return known if inputs else {}
    for given in inputs:
        try:
            dataset = dict(json.loads(given.profile or "{}"))
        except (ValueError, TypeError):  # written by another program
            continue
        dataset = {"name": given.name, "sha256": given.digest} | dataset
    return dataset


def _recorded(run: "Run") -> Recorded:
    tags = run.data.tags
    params = dict(run.data.params)
    if "run.id" in tags:  # else another program's
        params = {key: str(value) for key, value in versions.completed(params).items()}
    status = RunStatus.of_mlflow(run.info.status)
    return Recorded(
        run=tags.get("run.id", run.info.run_id),
        name=run.info.run_name or run.info.run_id,
        status=status,
        params=params,
        tags=tags,
        final={key: float(value) for key, value in run.data.metrics.items()},
        dataset=dataset_of(run),
        location=run.info.run_id,
        experiment=str(run.info.experiment_id),
        created_ms=run.info.start_time,
        ended_ms=run.info.end_time,
        how_pruned=how_pruned(status, tags.get("error"), tags),
    )
