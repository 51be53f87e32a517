"""What differs between two runs: settings, source, data, environment, curves, and predictions.

Everything is read from the run folders. A note names what one of them lacks; the rest is compared.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.analysis import charts, evidence, statistics
from harness.analysis.drawing import Chart
from harness.analysis.outcome import Outcome, different_labels
from harness.job import machine
from harness.runfolder.artifacts import sha256
from harness.runfolder.history import History
from harness.runfolder.objective import Objective
from harness.runfolder.own_code import FOLDER as OWN_CODE
from harness.runfolder.run import Run
from harness.tracking.recorded import Journals, from_journal

Pair = tuple[Any, Any]
Rows = dict[str, Pair]  # what differs -> its values in the first and in the second run
NOTHING = "-"  # the value of a key that a run does not have
ENVIRONMENT, UNCOMMITTED = "environment.txt", "uncommitted.diff"
CIRCUMSTANCES = ("outputs",)
SHOWN = 24  # pictures


@dataclass(frozen=True)
class Curves:
    """A metric of both runs, epoch by epoch."""

    metric: str
    first: NDArray[np.float64]
    second: NDArray[np.float64]

    @property
    def equal(self) -> int:
        """The number of leading epochs with equal values."""
        count = min(len(self.first), len(self.second))
        first, second = self.first[:count], self.second[:count]
        same = (first == second) | (np.isnan(first) & np.isnan(second))
        return count if same.all() else int(np.argmin(same))


@dataclass(frozen=True)
class Sides:
    """The test examples that only one of the runs misclassifies."""

    only_first: NDArray[np.int64]
    only_second: NDArray[np.int64]
    first: Outcome
    second: Outcome

    @property
    def p(self) -> float:
        """The p of McNemar's exact test."""
        return statistics.mcnemar(len(self.only_first), len(self.only_second))


@dataclass(frozen=True)
class Difference:
    """The differences between two runs. notes: what could not be compared."""

    runs: tuple[Run, Run]
    settings: Rows
    source: Rows
    data: Rows
    environment: Rows
    results: Rows
    curves: tuple[Curves, ...]
    sides: Sides | None
    notes: list[str] = field(default_factory=list)


def compare(first: Run, second: Run) -> Difference:
    """Compare two runs."""
    notes: list[str] = []
    one, other = first.history(), second.history()
    return Difference(
        (first, second),
        _different(_settings(one), _settings(other)),
        _source(first, second, notes),
        _different(*(_data(each.create["dataset"]) for each in (one, other))),
        _environment(first, second, notes),
        _results(one, other),
        tuple(_curves(one, other)),
        _sides(first, second, notes),
        notes,
    )


def text(value: Any) -> str:
    """A value as a table shows it; a setting as it is typed."""
    return evidence.AS_TYPED.get(str(value), str(value))


def number(value: Any) -> str:
    """A result as a table shows it, with six digits; a dash for NaN."""
    if not isinstance(value, float):
        return str(value)
    return NOTHING if math.isnan(value) else f"{value:.6g}"


def _different(first: Mapping[str, Any], second: Mapping[str, Any]) -> Rows:
    """The keys whose values differ, or that one of the runs lacks."""
    pairs = {
        key: (first.get(key, NOTHING), second.get(key, NOTHING))
        for key in dict.fromkeys([*first, *second])
    }
    return {key: pair for key, pair in pairs.items() if repr(pair[0]) != repr(pair[1])}


def _settings(history: History) -> dict[str, Any]:
    return {key: value for key, value in history.params.items() if key not in CIRCUMSTANCES}


def _data(dataset: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("name", "sha256", "source", "train", "val", "test", "image_shape", "classes")
    known = {key: dataset[key] for key in keys if key in dataset}
    return {key: each[:16] if isinstance(each, str) else each for key, each in known.items()}


def _source(first: Run, second: Run, notes: list[str]) -> Rows:
    """The commit, the uncommitted lines by file, and the user's own modules."""
    tags = [run.history().tags for run in (first, second)]
    commits = [each.get("mlflow.source.git.commit", "unknown")[:12] for each in tags]
    rows = _different({"commit": commits[0]}, {"commit": commits[1]})
    changes = []
    for run, each in zip((first, second), tags, strict=True):
        path = run.folder / UNCOMMITTED
        if each.get("git.dirty") == "true" and not path.is_file():
            notes.append(f"{run.id}: its uncommitted changes were not recorded")
        changes.append(_changed_lines(path.read_text(errors="replace")) if path.is_file() else {})
    files = {name: lines for each in changes for name, lines in each.items()}
    for name in files:
        one, other = (each.get(name, ((), ())) for each in changes)
        if one != other:
            rows[f"uncommitted {name}"] = (_counted(one), _counted(other))
    return rows | _different(_own_code(first), _own_code(second))


def _changed_lines(diff: str) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """The added and the removed lines of each file of a diff of Git."""
    files: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {}
    for part in re.split(r"^diff --git ", diff, flags=re.MULTILINE)[1:]:
        name = part.splitlines()[0].rpartition(" b/")[2]
        lines = part.splitlines()
        added = tuple(line for line in lines if line.startswith("+") and line[:3] != "+++")
        removed = tuple(line for line in lines if line.startswith("-") and line[:3] != "---")
        files[name] = (added, removed)
    return files


def _counted(lines: tuple[tuple[str, ...], tuple[str, ...]]) -> str:
    added, removed = map(len, lines)
    return f"+{added} -{removed} lines" if added or removed else NOTHING


def _own_code(run: Run) -> dict[str, str]:
    """The digests of the user's modules that the run used, from their copies."""
    folder = run.folder / OWN_CODE
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {f"own {path.relative_to(folder).as_posix()}": sha256(path)[:12] for path in paths}


def _environment(first: Run, second: Run, notes: list[str]) -> Rows:
    """Packages, machine and threads, by the lines of `environment.txt`."""
    found = []
    for run in (first, second):
        path = run.folder / ENVIRONMENT
        if not path.is_file():
            notes.append(f"{run.id} has no {ENVIRONMENT}")
            return {}
        lines = (line.partition(": ") for line in path.read_text().splitlines())
        found.append({key: value for key, _, value in lines if key != "commit"})
    return _different(*found)


def _results(one: History, other: History) -> Rows:
    """Status and final metrics, without those that measure the machine."""
    first, second = (
        {"status": each.status.value}
        | {k: v for k, v in sorted(each.final.items()) if not k.startswith(machine.PREFIX)}
        for each in (one, other)
    )
    return _different(first, second)


def _curves(one: History, other: History) -> Iterable[Curves]:
    """The metrics of each epoch that both runs have, the first run's objective first."""
    keys = dict.fromkeys([Objective.of(one.params).metric, "train/loss", "train/error"])
    for key in keys:
        first, second = (np.array(each.curve(key), np.float64) for each in (one, other))
        if len(first) and len(second):
            yield Curves(key, first, second)


def _sides(first: Run, second: Run, notes: list[str]) -> Sides | None:
    outcomes = []
    for run in (first, second):
        outcome = evidence.outcome(Journals(), from_journal(run), Path(), notes)
        if outcome is None:
            return None
        outcomes.append(outcome)
    one, other = outcomes
    if why := different_labels(one, other):
        notes.append(f"the predictions are of {why}")
        return None
    only_first = np.flatnonzero(one.wrong & ~other.wrong)
    only_second = np.flatnonzero(other.wrong & ~one.wrong)
    return Sides(only_first, only_second, one, other)


def pictures(difference: Difference, notes: list[str]) -> dict[str, Chart]:
    """The test images that changed sides, where examples are images: title -> chart."""
    sides = difference.sides
    if sides is None:
        return {}
    run = from_journal(difference.runs[0])
    images = evidence.images(run, difference.runs[0].outputs, notes)
    if images is None:
        return {}
    names = evidence.class_names(run, 1 + int(max(sides.first.labels.max(),
                                                  sides.first.predicted.max(),
                                                  sides.second.predicted.max())))  # fmt: skip
    made = {}
    for title, rows, wrong in (
        ("only the first is wrong", sides.only_first, sides.first),
        ("only the second is wrong", sides.only_second, sides.second),
    ):
        shown = rows[np.argsort(-wrong.confidence[rows], kind="stable")][:SHOWN]
        captions = [
            f"{charts.short(names[wrong.labels[row]])} as "
            f"{charts.short(names[wrong.predicted[row]])}"
            for row in shown
        ]
        if len(shown):
            made[title] = charts.gallery(images[shown].astype(float), captions)
    return made
