"""What a command says at its end: the table, where to look, what is missing, its exit status."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.run.signals import INTERRUPTED
from harness.runfolder import folder as runs
from harness.runfolder import journal
from harness.runfolder.journal import History
from harness.runfolder.plan import Plan

if TYPE_CHECKING:
    from harness.tracking.delivery import Report

UI = "http://127.0.0.1:5000"
DEFAULT = Path("outputs")  # of conf/config.yaml: commands need no word for it
DONE, FAILED, BAD_INPUT, UNDELIVERED = 0, 1, 2, 3


def tell(plan: Plan, folders: list[Path], report: "Report", *, interrupted: bool) -> int:
    """Print everything. Returns the exit status."""
    from harness.commands import status as overview

    histories = [journal.history(folder) for folder in folders]
    overview.show(overview.sweep_table(plan.jobs, histories))
    _tell_of_failures(folders, histories, interrupted=interrupted)
    outputs = folders[0].parents[1] if folders else DEFAULT
    _tell_of_delivery(plan, report, outputs)
    if interrupted:
        for told in histories:
            if told.status == "CREATED":
                print(f"not started: {told.create['name']}", file=sys.stderr)
        words = plan.overrides
        if not plan.id:
            elsewhere = [] if outputs == DEFAULT else [f"outputs={outputs}"]
            words = (f"resume={folders[0].name}", *elsewhere)
        again = shlex.join(["python", "-m", "harness.run", *words])
        print(f"interrupted; `{again}` goes on from here", file=sys.stderr)
        return INTERRUPTED
    if any(told.status != "FINISHED" and not runs.is_pruned(told) for told in histories):
        return FAILED
    return UNDELIVERED if report.undelivered or report.refused else DONE


def _tell_of_failures(
    folders: Sequence[Path], histories: Sequence[History], *, interrupted: bool
) -> None:
    bad = ("FAILED", "DAMAGED") if interrupted else ("FAILED", "DAMAGED", "KILLED", "RUNNING")
    for folder, told in zip(folders, histories, strict=True):
        if told.status in bad and not runs.is_pruned(told):
            name, status = told.create["name"], told.status.lower()
            why = told.error or "its end could not be written down"
            print(f"{status}: {name} ({told.run}): {why}", file=sys.stderr)
            print(f"        more in {folder}", file=sys.stderr)


def _tell_of_delivery(plan: Plan, report: "Report", outputs: Path) -> None:
    from harness.tracking.store import sweep_link

    if report.experiments:
        print(f"compare in the MLflow UI:  python -m harness ui   then open {UI}")
        for experiment_id in report.experiments.values() if plan.id else ():
            print(f"this sweep's charts:       {sweep_link(UI, experiment_id, plan.id)}")
    for run, count in report.refused.items():
        print(f"{run}: the store refused {count} record(s), see its refused.jsonl", file=sys.stderr)
    for run, why in report.undelivered.items():
        print(f"not delivered yet: {run}: {why}", file=sys.stderr)
    if report.undelivered:
        elsewhere = [] if outputs == DEFAULT else ["--outputs", str(outputs)]
        sync = shlex.join(["python", "-m", "harness", "sync", *elsewhere])
        print(f"`{sync}` delivers the rest", file=sys.stderr)
