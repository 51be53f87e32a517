"""Compare a run with its reproduction: how they were made, and every metric."""

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.job import machine
from harness.job.train import ENVIRONMENT, UNCOMMITTED
from harness.run import freeze
from harness.run.prepared import Prepared
from harness.runfolder import checkpoint, environment, keys, own_code
from harness.runfolder import config as configuration
from harness.runfolder.cost import PARAMETERS
from harness.runfolder.run import CONFIG, PREDICTIONS, WEIGHTS, Run
from harness.runfolder.schema import Config
from harness.tracking.reading import Reader
from harness.tracking.recorded import Missing, Recorded
from harness.tracking.store import MAX_PARAM

TAKEN = ("time/", machine.PREFIX)  # what a training takes differs each time


@dataclass(frozen=True)
class Check:
    """One recorded property of the run, then and now."""

    what: str
    then: str
    now: str

    @property
    def same(self) -> bool:
        """Whether nothing changed."""
        return self.then == self.now


@dataclass(frozen=True)
class Agreement:
    """One metric, or the weights, of both runs. apart: largest absolute difference, 0 when equal to
    the last bit, NaN when they cannot be subtracted."""

    what: str
    values: int
    equal: bool
    apart: float


def check_settings(run: Recorded, settings: Config) -> None:
    """Raise `ValueError` if the stored config.yaml is not that of the stored params."""
    for key, value in configuration.leaves(settings).items():
        text = str(value)[:MAX_PARAM]
        if run.params.get(key, text) != text:
            raise ValueError(
                f"run {run.run}: {key} is {text} in its stored {CONFIG} and {run.params[key]} in "
                "its params; one of them was changed, so there is nothing to compare with"
            )


def checks_of(reader: Reader, run: Recorded, files: Path, prepared: Prepared) -> list[Check]:
    """Everything recorded about how the run was made, beside how it would be made now."""
    source = freeze.source()
    then_code = run.tags.get("code.sha256", "")  # has a line of its own, below
    checks = [
        Check(
            "settings, data, source of data/ nn/ training/",
            run.tags.get("run_key", "?"),
            keys.run_key(prepared.job.config, prepared.data_digest, then_code),
        ),
        Check("data", run.tags.get("data.sha256", "?"), prepared.data_digest),
        Check("commit", run.tags.get("mlflow.source.git.commit", "none"),
              "none" if source is None else source.sha),
        Check("uncommitted changes", _changes(reader, run, files),
              _digest(environment.uncommitted())),
    ]  # fmt: skip
    code = own_code.digest(prepared.code) if prepared.code else "none"
    if code != "none" or then_code:
        files_now = ", ".join(each.path for each in prepared.code)
        checks.append(Check(f"own code ({files_now})", then_code or "none", code))
    try:
        then = _lines(reader.fetch(run, ENVIRONMENT, files).read_text())
    except Missing as error:
        print(f"note: {error}; packages and machine cannot be compared", file=sys.stderr)
        return checks
    libraries = own_code.libraries(prepared.code)
    now = _lines(environment.describe(int(then.get("blas threads", 1)), libraries))
    # An earlier version did not record the packages that own code imports.
    unknown = {*environment.distributions(libraries)} - then.keys()
    for key in dict.fromkeys([*then, *now]):
        if key not in ("host", "commit") and key not in unknown:
            checks.append(Check(key, then.get(key, "none"), now.get(key, "none")))
    return checks


def _changes(reader: Reader, run: Recorded, files: Path) -> str:
    if run.tags.get("git.dirty") != "true":
        return _digest("")
    try:
        patch = reader.fetch(run, UNCOMMITTED, files)
        return _digest(patch.read_text(encoding="utf-8", errors="surrogateescape"))
    except Missing:
        return f"some, but {UNCOMMITTED} is missing"


def _digest(patch: str) -> str:
    content = patch.encode(errors="surrogateescape")
    return f"patch {hashlib.sha256(content).hexdigest()[:12]}" if patch else "none"


def _lines(text: str) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)


def compare(run: Recorded, again: Recorded) -> list[Agreement]:
    """Every metric but the times and those of the machine, bit by bit."""
    agreements = []
    for key in sorted({*run.curves, *again.final}):
        is_new = key == PARAMETERS and key not in run.curves  # earlier versions had no such metric
        if key.startswith(TAKEN) or is_new:
            continue
        then = run.curves.get(key, np.zeros(0))
        now = again.curves.get(key, np.array([again.final[key]] if key in again.final else []))
        now = np.where(np.isfinite(now), now, np.nan)  # as the store holds them
        agreements.append(_agreement(key, then, now))
    return agreements


def _agreement(what: str, then: NDArray[np.float64], now: NDArray[np.float64]) -> Agreement:
    if then.shape != now.shape:
        return Agreement(f"{what} ({len(then)} values then, {len(now)} now)", 0, False, np.nan)
    equal = bool(np.all((then == now) | (np.isnan(then) & np.isnan(now))))
    apart = 0.0 if equal else float(np.max(np.abs(then - now)))
    return Agreement(what, len(then), equal, apart)


def compare_weights(reader: Reader, run: Recorded, files: Path, new: Run) -> Agreement:
    """The weights in the store and those of the new run; what the store lost is no agreement."""
    try:
        then, _ = checkpoint.load(reader.fetch(run, WEIGHTS, files))
    except ValueError as error:
        print(f"{error}; weights cannot be compared", file=sys.stderr)
        return Agreement(f"{WEIGHTS} (missing or damaged in the store)", 0, False, np.nan)
    now, _ = checkpoint.load(new.weights)
    shapes = [{name: array.shape for name, array in arrays.items()} for arrays in (then, now)]
    if shapes[0] != shapes[1]:
        return Agreement(f"{WEIGHTS} (of other shapes then)", 0, False, np.nan)
    flat = [np.concatenate([a[name].ravel() for name in sorted(a)]) for a in (then, now)]
    return _agreement(WEIGHTS, flat[0].astype(np.float64), flat[1].astype(np.float64))


def compare_predictions(reader: Reader, run: Recorded, files: Path, new: Run) -> Agreement:
    """The predictions of the test set in the store and those of the new run."""
    try:
        then = _probabilities(reader.fetch(run, PREDICTIONS, files))
    except (ValueError, OSError, LookupError) as error:
        print(f"{error}; predictions cannot be compared", file=sys.stderr)
        return Agreement(f"{PREDICTIONS} (missing or damaged in the store)", 0, False, np.nan)
    now = _probabilities(new.folder / PREDICTIONS)
    if then.shape != now.shape:
        return Agreement(f"{PREDICTIONS} (of another shape then)", 0, False, np.nan)
    return _agreement(PREDICTIONS, then.ravel(), now.ravel())


def _probabilities(file: Path) -> NDArray[np.float64]:
    with np.load(file) as arrays:
        return np.asarray(arrays["probabilities"], np.float64)
