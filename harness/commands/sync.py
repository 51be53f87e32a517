"""`python -m harness sync`: close dead runs, deliver what is left, prove that it arrived."""

import sys
from pathlib import Path

import click

from harness.commands.options import OUTPUTS
from harness.runfolder.folder import close_dead, readable_runs
from harness.runfolder.run import Run
from harness.runfolder.status import ExitStatus
from harness.runfolder.target import Target
from harness.tracking.store import StoreError


@click.command()
@OUTPUTS
@click.option("--relocate", is_flag=True, help="Repair the store after outputs was moved.")
def sync(outputs: Path, relocate: bool) -> None:
    """Deliver what is outstanding and prove that the store has it. Safe to repeat."""
    for run in close_dead(outputs):
        print(f"{run}: its process died without an end record; closed as KILLED")
    status = ExitStatus.DONE
    for target, runs in _by_target(outputs).items():
        try:
            complete = _sync(target, runs, relocate=relocate)
        except StoreError as error:
            print(error, file=sys.stderr)
            print(f"not delivered yet: {len(runs)} runs", file=sys.stderr)
            complete = False
        if not complete:
            status = ExitStatus.UNDELIVERED
    sys.exit(status)


def _sync(target: Target, runs: list[Run], *, relocate: bool) -> bool:
    """Deliver to one store and compare; what it has lost since is sent again, once."""
    from harness.tracking import sync as syncing

    report = syncing.deliver(target, runs, relocate=relocate)
    for run_id, why in report.undelivered.items():
        print(f"not delivered yet: {run_id}: {why}", file=sys.stderr)
    live = [run for run in runs if run.is_live()]
    done = [run for run in runs if run.id not in report.undelivered and run not in live]
    proofs = syncing.prove(target, done) if done else []
    different = {proof.run for proof in proofs if proof.differences}
    lost = [run for run in done if run.id in different]
    if lost:
        print(f"{target.uri}: sending {len(lost)} runs again that are incomplete in the store")
        syncing.send_again(target, lost)
        report.refused |= syncing.deliver(target, lost).refused
        proofs = syncing.prove(target, done)
    for run_id, count in report.refused.items():
        print(f"{run_id}: the store refused {count} records, see its refused.jsonl",
              file=sys.stderr)  # fmt: skip
    for proof in proofs:
        for difference in proof.differences:
            print(f"{proof.run}: {difference}", file=sys.stderr)
    rows = sum(proof.rows for proof in proofs)
    good = sum(not proof.differences for proof in proofs)
    line = f"{target.uri}: {good} of {len(runs)} runs complete, {rows} metric rows compared"
    print(f"{line}, {len(live)} still running" if live else line)
    return good + len(live) == len(runs) and not report.refused


def _by_target(outputs: Path) -> dict[Target, list[Run]]:
    """The runs of each store. By the journals' settings: a config file may be unreadable."""
    runs: dict[Target, list[Run]] = {}
    for run in readable_runs(outputs):
        target = run.target()
        if target is not None:
            runs.setdefault(target, []).append(run)
    return runs
