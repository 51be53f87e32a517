"""`python -m harness sync`: close dead runs, deliver the rest, and verify that it arrived."""

import contextlib
import json
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click
from filelock import Timeout

from harness.commands.options import JSON, PRESENT_OUTPUTS, check_uri, refuse
from harness.data.atomic import explained
from harness.runfolder import folder, removed
from harness.runfolder.journal import JournalError
from harness.runfolder.plan import all_plans
from harness.runfolder.run import Run
from harness.runfolder.selection import missing, select
from harness.runfolder.status import ExitStatus
from harness.runfolder.target import LOCAL, Target, shown
from harness.tracking.delivery import Report
from harness.tracking.errors import StoreError
from harness.tracking.sync import Proof

SILENT_S = 3.0  # then a line says what the command is waiting for


def _check_to(context: click.Context, option: click.Parameter, uri: str | None) -> str | None:
    """The address given with `--to`, which the runs' journals will record."""
    return uri if uri == LOCAL else check_uri(context, option, uri)


@click.command()
@click.argument("selection", nargs=-1)
@PRESENT_OUTPUTS
@click.option("--relocate", is_flag=True, help="Repair the store after outputs was moved.")
@click.option("--verify", is_flag=True, help="Also read a server's files and the data's cache.")
@click.option(
    "--resend", is_flag=True, help="Send runs again that the store lost, or mixed with others."
)
@click.option(
    "--to",
    "to",
    callback=_check_to,
    help="Deliver the runs bound for a tracking server to this store from now on.",
)
@click.option("--from", "source", help="With --to: move the runs bound for this store instead.")
@JSON
def sync(
    selection: tuple[str, ...], outputs: Path, relocate: bool, verify: bool, resend: bool,
    to: str | None, source: str | None, *, as_json: bool,
) -> None:  # fmt: skip
    """Deliver everything outstanding and verify that the store has it. Safe to repeat.

    SELECTION is as for `compare`; the default is everything in outputs.

    A file that is damaged in a run folder but intact in the store is copied back. Runs deleted in
    the store stay deleted. If a server moved, use `sync --to http://NEWHOST:5000`; `local` is the
    store in outputs.
    """
    if source is not None and to is None:
        refuse(ValueError(f"--from {shown(source)}: expected --to as well, the store from now on"))
    with contextlib.redirect_stdout(sys.stderr if as_json else sys.stdout):
        for run in folder.close_dead(outputs):
            print(f"{run}: its process died without an end record; closed as KILLED")
        complete = _verify_cache(outputs) if verify else True
        runs = _chosen(outputs, selection)
        if to is not None:
            complete &= _rebind(outputs, runs, source, Target.named(to, outputs))
        plans = all_plans(outputs)  # names the damaged ones
        by_target = _by_target(runs)
        broken = 0 if selection else _name_broken(outputs, by_target)
        stores = [_Sync(target, runs, broken) for target, runs in by_target.items()]
        for store in stores:
            complete &= store.carry_out(relocate=relocate, verify=verify, resend=resend)
        complete &= bool(selection) or _delete_removed(outputs)
        for line in missing([outputs], () if selection else plans):
            print(f"not here: {line}", file=sys.stderr)
        if not stores:
            none = "there is nothing to deliver"
            print(f"{outputs}: {f'0 of {broken} runs delivered in full' if broken else none}")
    complete &= not broken
    if as_json:
        content = {"format": "harness sync", "version": 1, "complete": complete}
        print(json.dumps(content | {"stores": [each.fields() for each in stores]}, indent=1))
    sys.exit(ExitStatus.DONE if complete else ExitStatus.UNDELIVERED)


def _chosen(outputs: Path, words: tuple[str, ...]) -> list[Run]:
    """The runs that the words select. Exits if they select none."""
    if not words:
        return folder.all_runs(outputs)
    try:
        chosen = select(outputs, words)
        if not chosen.runs:
            raise ValueError(f"{chosen.title}: there are no runs to deliver")
    except ValueError as error:
        refuse(error)
    return list(chosen.runs)


def _delete_removed(outputs: Path) -> bool:
    """Delete in the stores the runs that `rm` removed while the stores did not answer."""
    runs = folder.all_runs(removed.place(outputs))
    if not runs:
        return True
    from harness.tracking import removal

    problems = removal.delete(outputs, runs)
    for line in problems:
        print(f"removed here, but still in the store: {line}", file=sys.stderr)
    return not problems


def _name_broken(outputs: Path, by_target: dict[Target, list[Run]]) -> int:
    """Print the unusable run folders that belong to no store; returns their number."""
    compared = {run.folder for runs in by_target.values() for run in runs}
    broken = [each for each in folder.broken_runs(outputs) if each[0] not in compared]
    for path, why in broken:
        print(f"{path}: cannot be used: {why}", file=sys.stderr)
    return len(broken)


class _Sync:
    """Delivers the runs of one store and compares; what the store lost is sent again, once.

    broken: the number of unreadable runs. Each may belong to this store, so the store counts as
    incomplete.
    """

    def __init__(self, target: Target, runs: list[Run], broken: int) -> None:
        self.target, self.runs, self.broken = target, runs, broken
        self._counts: dict[str, int] = {}

    def fields(self) -> dict[str, Any]:
        """The result as JSON values: counts of runs and rows, 0 if nothing was compared."""
        counts = dict.fromkeys(("complete", "rows", "deleted", "running"), 0) | self._counts
        return {"store": str(self.target), "runs": len(self.runs) + self.broken, **counts}

    def carry_out(self, *, relocate: bool, verify: bool, resend: bool) -> bool:
        """Deliver, compare and print the result. Returns whether everything is in the store."""
        from harness.tracking import sync as syncing

        try:
            with _saying(f"{self.target}: delivering {len(self.runs)} run(s)"):
                report = syncing.deliver(self.target, self.runs, relocate=relocate)
        except StoreError as error:
            print(error, file=sys.stderr)
            print(f"not delivered yet: {len(self.runs)} runs", file=sys.stderr)
            self._print_hint()
            return False
        left = report.undelivered.keys() - report.comparable
        for run_id in sorted(left):
            print(f"not delivered yet: {run_id}: {report.undelivered[run_id]}", file=sys.stderr)
        if left:
            self._print_hint()
        live = [run for run in self.runs if run.is_live()]
        done = [run for run in self.runs if run.id not in left and run not in live]
        prove = partial(syncing.prove, self.target, done, verify=verify, resend=resend)
        try:
            proofs = prove() if done else []
            _print_restored(proofs)
            lost = {proof.run for proof in proofs if proof.differences}
            if lost:
                print(f"{self.target}: sending {len(lost)} runs again that are incomplete in the "
                      "store")  # fmt: skip
                again = [run for run in done if run.id in lost]
                syncing.send_again(self.target, again)
                report.refused |= syncing.deliver(self.target, again).refused
                proofs = prove()
                _print_restored(proofs)
        except StoreError as error:
            print(f"{error}; delivered, but not compared", file=sys.stderr)
            return False
        return self._tell(report, proofs, len(live)) and not left  # one of them may be live

    def _print_hint(self) -> None:
        if self.target.artifacts is None:
            print("if the store has another address by now: `python -m harness sync --to URI`",
                  file=sys.stderr)  # fmt: skip

    def _tell(self, report: Report, proofs: list[Proof], live: int) -> bool:
        for run_id, count in report.refused.items():
            print(f"{run_id}: the store refused {count} records, see its refused.jsonl",
                  file=sys.stderr)  # fmt: skip
        for proof in proofs:
            for line in (*proof.differences, *proof.damage):
                print(f"{proof.run}: {line}", file=sys.stderr)
            if proof.deleted:
                print(f"{proof.run}: {proof.deleted}")
        rows = sum(proof.rows for proof in proofs)
        whole = {proof.run for proof in proofs if proof.is_complete}
        good = len(whole)
        deleted = sum(proof.deleted is not None for proof in proofs)
        count = len(self.runs) + self.broken
        self._counts = {"complete": good, "rows": rows, "deleted": deleted, "running": live}
        stopped = sum(run.id in whole and not run.is_finished for run in self.runs)
        line = (
            f"{self.target}: {good} of {count} runs delivered in full, {rows} metric rows compared"
        )
        line += f", {stopped} not trained to the end" if stopped else ""
        line += f", {deleted} deleted in the store" if deleted else ""
        print(f"{line}, {live} still running" if live else line)
        return good + deleted + live == count and not report.refused


@contextlib.contextmanager
def _saying(what: str) -> Iterator[None]:
    """Print `what` if the block takes longer than `SILENT_S`."""
    timer = threading.Timer(SILENT_S, lambda: print(what, flush=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _print_restored(proofs: list[Proof]) -> None:
    for proof in proofs:
        for path in proof.restored:
            print(f"{proof.run}: {path} was damaged; restored from the store")


def _verify_cache(outputs: Path) -> bool:
    """Compare the extracted data sets with their digests and repair what differs.

    Returns whether they are now correct.
    """
    from harness.data import extraction

    problems = extraction.verify(outputs / "cache")
    for line in problems:
        print(line, file=sys.stderr)
    return not problems or not extraction.verify(outputs / "cache")


def _rebind(outputs: Path, chosen: list[Run], source: str | None, to: Target) -> bool:
    """Record in the runs of a store that they now go to another one, if that one answers.

    source: the address of the old store; None means every tracking server.
    """
    from harness.tracking import sync as syncing

    before = None if source is None else Target.named(source, outputs)
    runs = [
        run
        for target, runs in _by_target(chosen).items()
        for run in runs
        if target != to and (target == before if before else target.artifacts is None)
    ]
    try:
        syncing.check(to)
    except StoreError as error:
        print(f"{error}; nothing was changed", file=sys.stderr)
        sys.exit(ExitStatus.UNDELIVERED)
    bound = 0
    for run in runs:
        try:
            run.bind(to)
            bound += 1
        except (JournalError, OSError, Timeout) as error:
            print(f"{run.id}: stays where it is: {explained(error)}", file=sys.stderr)
    print(f"{bound} runs are delivered to {to} from now on")
    return bound == len(runs)


def _by_target(chosen: list[Run]) -> dict[Target, list[Run]]:
    """The runs of each store, from the journals' settings: a config file may be unreadable."""
    runs: dict[Target, list[Run]] = {}
    for run in chosen:
        target = run.target()
        if target is not None:
            runs.setdefault(target, []).append(run)
    return runs
