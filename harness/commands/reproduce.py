"""`python -m harness reproduce RUN_ID`: train a run again from what MLflow holds, and compare.

The frozen config, the data and the recorded number of threads are reused; differences in the
source, the packages and the machine are printed. The run is trained in a separate folder, which no
sweep reuses, and every metric is compared bit for bit.
"""

import sys
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
from rich import box
from rich.table import Table

from harness.commands.options import CONFIG_DIR, OUTPUTS, URI, refuse
from harness.run import freeze
from harness.run.compose import Job
from harness.run.fitted_table import FittedTable, show
from harness.run.launchers import prestart
from harness.run.launchers.job_process import JobProcess
from harness.run.prepared import Prepared
from harness.run.reproduction import (
    Agreement,
    Check,
    check_settings,
    checks_of,
    compare,
    compare_predictions,
    compare_weights,
)
from harness.runfolder import folder
from harness.runfolder.folder import Identity
from harness.runfolder.frozen_config import read_schema, read_yaml
from harness.runfolder.run import CONFIG, PREDICTIONS, REPRODUCES, Run
from harness.runfolder.schema import Config, ScratchConfig
from harness.runfolder.selection import Unknown, one_run
from harness.runfolder.status import ExitStatus, RunStatus
from harness.runfolder.target import Target
from harness.tracking.errors import StoreError
from harness.tracking.reading import Reader
from harness.tracking.recorded import Recorded, from_journal


@click.command()
@click.argument("run_id")
@OUTPUTS
@CONFIG_DIR
@URI
def reproduce(run_id: str, outputs: Path, uri: str | None) -> None:
    """Train a run again from what MLflow holds, and compare every metric bit for bit.

    Exit status: 0 if all are equal, else 1.
    """
    try:
        if uri is None or run_id == "last":
            with suppress(Unknown):  # the store may know it
                run_id = one_run(outputs, run_id).id
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
    """Carry out the command. files: a folder for downloaded artifacts."""
    frozen = reader.fetch(run, CONFIG, files)
    settings, schema = read_yaml(frozen, to_train=True), read_schema(frozen)
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
    new = _train_again(run, settings, schema, prepared, outputs)
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


def _train_again(
    run: Recorded, settings: Config, schema: int, prepared: Prepared, outputs: Path
) -> Run:
    tags = {
        "run_key": f"reproduction of {run.run}",  # not a key that a sweep could reuse
        REPRODUCES: run.run,
        "data.sha256": prepared.data_digest,
    }
    identity = Identity(f"reproduction of {run.name}", tags, prepared.dataset, prepared.code)
    new = folder.create(outputs, settings, identity, schema)
    with JobProcess(new, prestart.start_job()) as job:
        job.wait()
    return new


def checks_table(run: Recorded, checks: list[Check]) -> Table:
    """The original and the new environment, side by side."""
    table = Table(title=f"{run.name} ({run.run})", title_justify="left", box=box.SIMPLE)
    for title in ("", "", "then", "now"):
        table.add_column(title, overflow="fold")
    for check in checks:
        mark = "same" if check.same else "DIFFERS"
        now = "" if check.same else check.now
        table.add_row(mark, check.what, check.then, now, style=None if check.same else "bold")
    return table


def agreements_table(agreements: list[Agreement]) -> Table:
    """A table of how closely each metric agrees."""
    table = FittedTable()
    table.add("metric", folds=True)
    for title in ("values", "equal", "largest difference"):
        table.add(title, right=True)
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
