"""`python -m harness reproduce RUN_ID`: train a run again from what MLflow holds, and compare.

The frozen config, the data and the recorded number of threads are used as they were; differences in
the source, the packages and the machine are printed. The run is trained again in a folder of its
own, which no sweep builds on, and every metric is compared to the last bit.
"""

import hashlib
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.table import Table

from harness.commands.options import OUTPUTS, URI, refuse
from harness.job.train import ENVIRONMENT, UNCOMMITTED
from harness.job.training_run import PREDICTIONS
from harness.run import freeze
from harness.run.compose import Job
from harness.run.launchers import prestart
from harness.run.launchers.job_process import JobProcess
from harness.run.prepared import Prepared
from harness.run.summary import show
from harness.runfolder import checkpoint, environment, folder, own_code
from harness.runfolder import config as configuration
from harness.runfolder.folder import Identity
from harness.runfolder.frozen_config import read_yaml
from harness.runfolder.run import CONFIG, REPRODUCES, WEIGHTS, Run
from harness.runfolder.schema import Config, ScratchConfig
from harness.runfolder.status import ExitStatus, RunStatus
from harness.runfolder.target import Target
from harness.tracking.reading import Reader
from harness.tracking.recorded import Missing, Recorded, from_journal
from harness.tracking.store import MAX_PARAM, StoreError

TIMES = "time/"


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


@click.command()
@click.argument("run_id")
@OUTPUTS
@URI
def reproduce(run_id: str, outputs: Path, uri: str | None) -> None:
    """Train a run again from what MLflow holds, and compare every metric to the last bit.

    Exit status: 0 when all are equal, else 1.
    """
    try:
        if run_id == "last":
            run_id = folder.find(outputs, run_id).id
        reader = Reader(Target.named(uri, outputs))
        run = reader.run(run_id)
        if run.status is not RunStatus.FINISHED:
            raise ValueError(
                f"{run.run} is {run.status}: only a finished run has everything that a "
                "reproduction is compared with"
            )
        with tempfile.TemporaryDirectory() as temporary:
            status = _reproduce(reader, run, Path(temporary), outputs)
    except (ValueError, StoreError) as error:
        refuse(error)
    sys.exit(status)


def _reproduce(reader: Reader, run: Recorded, files: Path, outputs: Path) -> ExitStatus:
    """files: a folder for downloaded artifacts."""
    settings = read_yaml(reader.fetch(run, CONFIG, files), to_train=True)
    check_settings(run, settings)
    settings = replace(
        settings,
        outputs=str(outputs),
        threads=int(run.tags.get("threads", 1)),
        tracking=replace(settings.tracking, name="none", uri=None),
    )
    (prepared,) = freeze.prepare([Job(run.name, {}, settings)])
    checks = checks_of(reader, run, files, prepared)
    show(checks_table(run, checks))
    new = _train_again(run, settings, prepared, outputs)
    again = from_journal(new)
    if again.status is not RunStatus.FINISHED:
        print(f"the reproduction {again.run} ended as {again.status}", file=sys.stderr)
        return ExitStatus.FAILED
    reader.add_curves([run], run.final)
    agreements = compare(run, again)
    if isinstance(settings, ScratchConfig):
        agreements.append(compare_weights(reader, run, files, new))
    elif PREDICTIONS in new.history().artifacts:
        agreements.append(compare_predictions(reader, run, files, new))
    show(agreements_table(agreements))
    return print_verdict(run, again, checks, agreements)


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
    """Everything recorded about how the run was made, with how it would be made now."""
    source = freeze.source()
    checks = [
        Check(
            "settings, data, source of data/ nn/ training/",
            run.tags.get("run_key", "?"),
            prepared.key,
        ),
        Check("data", run.tags.get("data.sha256", "?"), prepared.data_digest),
        Check("commit", run.tags.get("mlflow.source.git.commit", "none"),
              "none" if source is None else source.sha),
        Check("uncommitted changes", _changes(reader, run, files),
              _digest(environment.uncommitted())),
    ]  # fmt: skip
    code = own_code.digest(prepared.code) if prepared.code else "none"
    if {code, run.tags.get("code.sha256", "none")} != {"none"}:
        files_now = ", ".join(each.path for each in prepared.code)
        checks.append(Check(f"own code ({files_now})", run.tags.get("code.sha256", "none"), code))
    try:
        then = _lines(reader.fetch(run, ENVIRONMENT, files).read_text())
    except Missing as error:
        print(f"note: {error}; packages and machine cannot be compared", file=sys.stderr)
        return checks
    now = _lines(environment.describe(int(then.get("blas threads", 1))))
    for key in dict.fromkeys([*then, *now]):
        if key not in ("host", "commit"):
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


def _train_again(run: Recorded, settings: Config, prepared: Prepared, outputs: Path) -> Run:
    tags = {
        "run_key": f"reproduction of {run.run}",  # not a key that a sweep could build on
        REPRODUCES: run.run,
        "data.sha256": prepared.data_digest,
    }
    identity = Identity(f"reproduction of {run.name}", tags, prepared.dataset, prepared.code)
    new = folder.create(outputs, settings, identity)
    with JobProcess(new, prestart.start_job()) as job:
        job.wait()
    return new


def compare(run: Recorded, again: Recorded) -> list[Agreement]:
    """Every metric but the times, bit by bit."""
    agreements = []
    for key in sorted({*run.curves, *again.final}):
        if key.startswith(TIMES):
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


def checks_table(run: Recorded, checks: list[Check]) -> Table:
    """Then and now, side by side."""
    table = Table(title=f"{run.name} ({run.run})", title_justify="left", box=box.SIMPLE)
    for title in ("", "", "then", "now"):
        table.add_column(title, overflow="fold")
    for check in checks:
        mark = "same" if check.same else "DIFFERS"
        now = "" if check.same else check.now
        table.add_row(mark, check.what, check.then, now, style=None if check.same else "bold")
    return table


def agreements_table(agreements: list[Agreement]) -> Table:
    """How closely each metric agrees."""
    table = Table(box=box.SIMPLE)
    for title in ("metric", "values", "equal", "largest difference"):
        table.add_column(title, justify="left" if title == "metric" else "right")
    for each in agreements:
        apart = "0" if each.equal else f"{each.apart:.3g}"
        table.add_row(each.what, f"{each.values:,}", "yes" if each.equal else "NO", apart)
    return table


def print_verdict(
    run: Recorded, again: Recorded, checks: list[Check], agreements: list[Agreement]
) -> ExitStatus:
    """Print whether the run was reproduced; returns the exit status."""
    values = sum(each.values for each in agreements)
    if all(each.equal for each in agreements):
        print(f"reproduced to the last bit: {values:,} values (as {again.run})")
        return ExitStatus.DONE
    worst = max(
        (each for each in agreements if not each.equal),
        key=lambda each: np.inf if np.isnan(each.apart) else each.apart,
    )
    names = [check.what for check in checks if not check.same]
    why = (
        f"what differs: {', '.join(names)}"
        if names
        else ("nothing that was recorded differs; the libraries or the processor round differently")
    )
    print(
        f"reproduced only approximately (as {again.run}): {worst.what} differs by up to "
        f"{worst.apart:.3g}; {why}",
        file=sys.stderr,
    )
    commit = run.tags.get("mlflow.source.git.commit")
    if "commit" in names and commit:
        print(
            f"`git worktree add ../then {commit[:12]}` has the source of that run", file=sys.stderr
        )
    return ExitStatus.FAILED
