"""`python -m harness sync`: ends what died, delivers what is left, proves that it arrived."""

import sys
from pathlib import Path

from harness.runfolder import folder as runs
from harness.tracking.store import StoreError
from harness.tracking.target import Target

DONE, UNDELIVERED = 0, 3


def sync(outputs: Path, *, relocate: bool) -> int:
    """Deliver every run of `outputs` to the store its config names. Returns the exit status."""
    for run in runs.close_dead(outputs):
        print(f"{run}: its process died without a word; closed as KILLED")
    status = DONE
    for target, folders in _by_target(outputs).items():
        try:
            complete = _sync(target, folders, relocate=relocate)
        except StoreError as error:
            print(error, file=sys.stderr)
            print(f"not delivered yet: {len(folders)} runs", file=sys.stderr)
            complete = False
        if not complete:
            status = UNDELIVERED
    return status


def _sync(target: Target, folders: list[Path], *, relocate: bool) -> bool:
    """Deliver to one store and compare; what it lost since is sent again, once."""
    from harness.tracking import sync as synchronisation

    report = synchronisation.deliver(target, folders, relocate=relocate)
    for run, why in report.undelivered.items():
        print(f"not delivered yet: {run}: {why}", file=sys.stderr)
    live = [folder for folder in folders if runs.is_live(folder)]
    done = [f for f in folders if f.name not in report.undelivered and f not in live]
    proofs = synchronisation.prove(target, done) if done else []
    lost = [runs.folder_of(folders[0].parents[1]) / p.run for p in proofs if p.differences]
    if lost:
        print(f"{target.uri}: sending {len(lost)} runs again, the store lost something of them")
        synchronisation.send_again(target, lost)
        report.refused |= synchronisation.deliver(target, lost).refused
        proofs = synchronisation.prove(target, done)
    for run, count in report.refused.items():
        print(f"{run}: the store refused {count} records, see its refused.jsonl", file=sys.stderr)
    for proof in proofs:
        for difference in proof.differences:
            print(f"{proof.run}: {difference}", file=sys.stderr)
    rows = sum(proof.rows for proof in proofs)
    good = sum(not proof.differences for proof in proofs)
    line = f"{target.uri}: {good} of {len(folders)} runs complete, {rows} metric rows compared"
    print(f"{line}, {len(live)} still running" if live else line)
    return good + len(live) == len(folders) and not report.refused


def _by_target(outputs: Path) -> dict[Target, list[Path]]:
    found: dict[Target, list[Path]] = {}
    for folder, told in runs.readable(outputs):
        params = told.create["params"]
        if params["tracking.name"] == "none":
            continue
        uri = params["tracking.uri"] if params["tracking.name"] == "server" else None
        target = Target(uri) if uri else Target.local(outputs)
        found.setdefault(target, []).append(folder)
    return found
