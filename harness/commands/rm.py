"""`python -m harness rm`: remove runs and sweeps; they can be restored until `gc`."""

import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import click

from harness.commands.options import OUTPUTS, YES, confirmed, refuse
from harness.runfolder import removed
from harness.runfolder.folder import all_runs, alone
from harness.runfolder.hint import hint
from harness.runfolder.plan import Plan, all_plans, sweeps_folder
from harness.runfolder.run import Run
from harness.runfolder.selection import Selection, is_relative, of_others, select
from harness.runfolder.status import ExitStatus

MOST_NAMED = 10


@click.command()
@click.argument("selection", nargs=-1, required=True)
@YES
@OUTPUTS
def rm(selection: tuple[str, ...], yes: bool, outputs: Path) -> None:
    """Remove runs, or a whole sweep: folders, report, trials, and runs in MLflow.

    SELECTION is as for `compare`. `restore` brings them back until `gc` deletes them permanently.
    """
    try:
        chosen, shared = _without_shared(select(outputs, selection), outputs)
        _check(chosen, outputs)
        if shared:
            print(f"{shared} run(s) of it stay: they belong to other sweeps as well")
        question = _question(chosen)
        if not confirmed(question, yes=yes):
            print("nothing was removed")
            sys.exit(ExitStatus.FAILED)
        with alone(outputs):
            _check(chosen, outputs)
            removed.remove(outputs, chosen.runs, chosen.plans)
        for plan in chosen.plans:
            rename_study(outputs, plan, is_removed=True)
    except ValueError as error:
        refuse(error)
    again = hint("restore", *_words(outputs, selection, chosen), outputs=outputs)
    print(f"removed {_counted(chosen)}; `{again}` brings them back")
    sys.exit(_delete(outputs))


def _without_shared(chosen: Selection, outputs: Path) -> tuple[Selection, int]:
    """Sweeps without the runs that other sweeps share, and the number of shared runs."""
    others = of_others(chosen.plans, all_plans(outputs))
    kept = tuple(run for run in chosen.runs if run.id not in others)
    return replace(chosen, runs=kept), len(chosen.runs) - len(kept)


def _check(chosen: Selection, outputs: Path) -> None:
    """Raise `ValueError` if there is nothing to remove, or if a run is being trained."""
    if not chosen.runs and not chosen.plans:
        raise ValueError(f"{chosen.title}: there are no runs to remove")
    if live := [run.id for run in chosen.runs if run.is_training()]:
        raise ValueError(f"{live[0]} is still training; stop it first")
    if searching := [plan.id for plan in chosen.plans if _is_searching(outputs, plan)]:
        raise ValueError(f"sweep {searching[0]}: the search is still running; stop it first")
    removed.check_vacant(removed.place(outputs), chosen.runs, chosen.plans)


def _is_searching(outputs: Path, plan: Plan) -> bool:
    if not (sweeps_folder(outputs) / plan.id).is_dir():
        return False
    from harness.run.search.storage import Storage

    storage = Storage.of(outputs, plan.id)
    storage.check()
    return bool(storage.workers(plan.id).others())


def _counted(chosen: Selection) -> str:
    runs = "1 run" if len(chosen.runs) == 1 else f"{len(chosen.runs)} runs"
    titles = [plan.title for plan in chosen.plans]
    if not titles:
        return runs
    return f"{'sweep' if len(titles) == 1 else 'sweeps'} {', '.join(titles)} with {runs}"


def _question(chosen: Selection) -> str:
    names = "\n".join(f"  {run.id}  {run.name}" for run in chosen.runs[:MOST_NAMED])
    more = len(chosen.runs) - MOST_NAMED
    names += f"\n  and {more} more" if more > 0 else ""
    return f"{names}\nremove {_counted(chosen)}?"


def _words(outputs: Path, selection: Sequence[str], chosen: Selection) -> Sequence[str]:
    """Words that select exactly what was just removed: the user's if they do, else ids."""
    if not is_relative(selection):
        with suppress(ValueError):
            found = select(removed.place(outputs), selection)
            if (_ids(found.runs), _ids(found.plans)) == (_ids(chosen.runs), _ids(chosen.plans)):
                return selection
    in_sweeps = {job.run for plan in chosen.plans for job in plan.jobs}
    return [*_ids(chosen.plans), *sorted(_ids(chosen.runs) - in_sweeps)]


def _ids(each_of: Iterable[Run] | Iterable[Plan]) -> set[str]:
    return {each.id for each in each_of}


def rename_study(outputs: Path, plan: Plan, *, is_removed: bool) -> None:
    """Rename the study of a search: set its trials aside, or bring them back."""
    from harness.run.search import study  # which loads Optuna

    names = (plan.id, f"{study.REMOVED}{plan.id}")
    study.rename(outputs, *(names if is_removed else names[::-1]))


def _delete(outputs: Path) -> ExitStatus:
    """Delete the removed runs in the stores, also those that a killed command left there."""
    from harness.tracking import removal  # which loads MLflow

    problems = removal.delete(outputs, all_runs(removed.place(outputs)))
    for line in problems:
        print(f"still in the store: {line}", file=sys.stderr)
    if problems:
        print(f"`{hint('sync', outputs=outputs)}` deletes them there", file=sys.stderr)
    return ExitStatus.UNDELIVERED if problems else ExitStatus.DONE
