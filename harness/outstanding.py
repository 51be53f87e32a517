"""`python -m harness sync`: ends what died, delivers what is left, proves that it arrived."""

import sys
from pathlib import Path

from harness import config, runs
from harness.tracking.store import StoreError, Target
from harness.training import journal

DONE, UNDELIVERED = 0, 3


def sync(outputs: Path, *, relocate: bool) -> int:
    """Deliver every run of `outputs` to the store its config names. Returns the exit status."""
    from harness.tracking import sync as synchronisation

    for run in runs.close_dead(outputs):
        print(f"{run}: its process died without a word; closed as KILLED")
    status = DONE
    for target, folders in _by_target(outputs).items():
        try:
            report = synchronisation.deliver(target, folders, relocate=relocate)
        except StoreError as error:
            print(error, file=sys.stderr)
            status = UNDELIVERED
            continue
        for run, why in report.undelivered.items():
            print(f"not delivered yet: {run}: {why}", file=sys.stderr)
        for run, count in report.refused.items():
            print(f"{run}: the store refused {count} record(s), see refused.jsonl", file=sys.stderr)
        delivered = [folder for folder in folders if folder.name not in report.undelivered]
        proofs = synchronisation.prove(target, delivered) if delivered else []
        for proof in proofs:
            for difference in proof.differences:
                print(f"{proof.run}: {difference}", file=sys.stderr)
        rows = sum(proof.rows for proof in proofs)
        good = sum(not proof.differences for proof in proofs)
        print(f"{target.uri}: {good} of {len(folders)} runs complete, {rows} metric rows compared")
        if good < len(folders):
            status = UNDELIVERED
    return status


def _by_target(outputs: Path) -> dict[Target, list[Path]]:
    found: dict[Target, list[Path]] = {}
    for folder in journal.folders(runs.folder_of(outputs)):
        tracking = config.read_yaml(folder / runs.CONFIG).tracking
        if tracking.name == "none":
            continue
        uri = tracking.uri if tracking.name == "server" else None
        target = Target(uri) if uri else Target.local(outputs)
        found.setdefault(target, []).append(folder)
    return found
