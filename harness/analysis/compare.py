"""`python -m harness compare`: which setting is better, by how much, and is the difference real?

Reads runs from MLflow, or from the journals when there is no MLflow, and writes a report of three
files: `outputs/reports/<name>/index.html`, `settings.csv` and `report.json`.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

from rich import box
from rich.table import Table

from harness.analysis import evidence, ranking, tables
from harness.analysis import figures as illustrations
from harness.analysis import page as report
from harness.analysis import settings as trials
from harness.analysis.figures import SHOWN
from harness.analysis.page import Report
from harness.analysis.ranking import Outcome
from harness.analysis.settings import Setting
from harness.data.atomic import write_text
from harness.nn import metrics
from harness.run import summary as overview
from harness.runfolder.plan import Plan
from harness.runfolder.run import Run
from harness.tracking.reading import Reader
from harness.tracking.recorded import Journals, Recorded, from_journal
from harness.tracking.selection import Selection, select
from harness.tracking.store import StoreError

DONE, BAD_INPUT, UNDELIVERED = 0, 2, 3


def command(outputs: Path, words: list[str], uri: str | None, *, attach: bool) -> int:
    """The command line; returns the exit status."""
    try:
        selection = select(outputs, words, uri)
        made, chosen = build(selection, outputs)
    except (ValueError, StoreError) as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    files = write(made, outputs / "reports" / selection.name)
    overview.show(terminal_table(made))
    print(tables.lead(made.standings))
    for note in made.notes:
        print(f"note: {note}", file=sys.stderr)
    print(f"report: {files[0]}")
    if not attach or isinstance(selection.source, Journals):
        return DONE
    try:
        selection.source.attach(chosen, files, f"report/{selection.name}")
        _save_view(selection, chosen, made)
    except (ValueError, StoreError) as error:
        print(f"not attached to {chosen.run}: {error}", file=sys.stderr)
        return UNDELIVERED
    print(f"attached to {chosen.name} ({chosen.run}) as report/{selection.name}")
    return DONE


def _save_view(selection: Selection, chosen: Recorded, made: Report) -> None:
    """A view of the sweep in MLflow's UI: what differs as columns, means over seeds as curves."""
    if isinstance(selection.source, Reader) and selection.title.startswith("sweep "):
        params = [key for key in made.settings[0].values if key in chosen.params]
        seeds = {trial.seed for setting in made.settings for trial in setting.trials}
        params += [trials.SEED] if len(seeds) > 1 else []
        selection.source.save_view(chosen, selection.name, params)


def after_sweep(plan: Plan, outputs: Path) -> str:
    """Make a finished sweep's report from its journals and note it in its best run's journal.

    Returns the line to print. Whatever goes wrong is said in that line: the sweep itself is done.
    """
    folder = outputs / "reports" / plan.id
    try:
        recorded = [from_journal(run) for run in plan.runs(outputs)]
        finished = {run.run for run in recorded if run.status == "FINISHED"}
        if not finished:
            return "no report: no run is finished"
        if _reported(folder) != finished:
            source = Journals()
            made, chosen = build(Selection(f"sweep {plan.id}", recorded, source), outputs)
            files = write(made, folder)
            source.attach(chosen, files, f"report/{plan.id}")
            Run(Path(chosen.place)).add_artifacts(
                [f"report/{plan.id}/{path.name}" for path in files]
            )
    except Exception as error:
        return f"no report: {type(error).__name__}: {error}"
    return f"report:                    {folder / 'index.html'}"


def build(selection: Selection, outputs: Path) -> tuple[Report, Recorded]:
    """The report, and the run it belongs to: the best setting's chosen one.

    Raises `ValueError` when there is nothing to compare; everything else that is missing becomes a
    note and the rest is reported.
    """
    notes: list[str] = []
    source, by_run = selection.source, {run.run: run for run in selection.recorded}
    finished = evidence.finished(selection, notes)
    source.add_curves(finished, (metrics.VAL_ERROR, metrics.EPOCH_S))
    settings = trials.group([evidence.trial(run) for run in finished], notes)
    settings = ranking.ordered(settings, notes)
    shown = settings[:SHOWN]
    source.add_curves(
        [by_run[trial.run] for setting in shown for trial in setting.trials], (metrics.TRAIN_LOSS,)
    )
    chosen = by_run[settings[0].chosen.run]
    with tempfile.TemporaryDirectory() as folder:
        outcomes = {
            run.run: outcome
            for run in (by_run[setting.chosen.run] for setting in shown)
            if (outcome := evidence.outcome(source, run, Path(folder), notes))
        }
        best = illustrations.Best(
            outcomes.get(chosen.run),
            evidence.images(chosen, outputs, notes),
            evidence.weights(source, chosen, Path(folder), notes),
        )
    if len(shown) < len(settings):
        notes.append(
            f"curves and predictions are compared for the {SHOWN} settings ranked first; tests "
            f"over seeds for all {len(settings)}"
        )
    standings = ranking.stand(settings, outcomes)
    pairs = ranking.pairs(shown, outcomes, notes)
    pictures = [
        *illustrations.curves(settings),
        *illustrations.swept(settings),
        *illustrations.best(
            best, _runner_up(settings, outcomes), settings[0].label, _classes(outcomes)
        ),
    ]
    made = time.strftime("%Y-%m-%d %H:%M")
    count = sum(len(setting.trials) for setting in settings)
    about = f"{count} finished run(s), {len(settings)} setting(s); made {made}"
    title = f"Comparison of {selection.title}"
    return Report(title, about, notes, standings, pairs, pictures), chosen


def write(made: Report, folder: Path) -> list[Path]:
    """Write the page, the CSV and the JSON; returns their paths, the page first."""
    contents = {
        "index.html": report.page(made),
        "settings.csv": tables.to_csv(made.setting_rows()),
        "report.json": made.to_json(),
    }
    for name, text in contents.items():
        write_text(folder / name, text)
    return [folder / name for name in contents]


def terminal_table(made: Report) -> Table:
    """The ranking in the terminal."""
    table = Table(
        title=f"{made.title}   (* best, = not distinguishable from it at 5 %)",
        title_justify="left",
        box=box.SIMPLE,
    )
    keys = list(made.standings[0].setting.values)
    for key in ("", *keys):
        table.add_column(key)
    for title in ("n", "val error, best epoch", "last epoch", "test error", "chosen run [95 %]",
                  "p", "seeds to tell", "seconds"):  # fmt: skip
        table.add_column(title, justify="right")
    for standing in made.standings[:40]:
        row = tables.setting_row(standing)
        seconds = row["seconds_mean"]
        low, high = row["chosen_test_low"], row["chosen_test_high"]
        table.add_row(
            tables.mark(standing.verdict),
            *standing.setting.values.values(),
            str(row["n"]),
            tables.spread(row["val_error_best_epoch_mean"], row["val_error_best_epoch_std"]),
            tables.spread(row["val_error_last_epoch_mean"], row["val_error_last_epoch_std"]),
            tables.spread(row["test_error_mean"], row["test_error_std"]),
            tables.span(low, high),
            tables.p_value(standing.p),
            standing.seeds,
            "–" if seconds is None else f"{seconds:.1f}",
            style="bold" if standing.verdict in (ranking.BEST, ranking.LOWEST) else None,
        )
    if len(made.standings) > 40:
        table.caption = f"the first 40 of {len(made.standings)} settings"
    return table


def _runner_up(settings: list[Setting], outcomes: dict[str, Outcome]) -> tuple[str, Outcome] | None:
    """The setting ranked next whose chosen run saw the same test images."""
    best = outcomes.get(settings[0].chosen.run)
    for setting in settings[1:]:
        other = outcomes.get(setting.chosen.run)
        if best and other and not ranking.different_labels(best, other):
            return setting.label, other
    return None


def _classes(outcomes: dict[str, Outcome]) -> int:
    highest = [max(int(o.labels.max()), int(o.predicted.max())) for o in outcomes.values()]
    return 1 + max(highest, default=0)


def _reported(folder: Path) -> set[str]:
    """The runs of the report that is there."""
    try:
        content = json.loads((folder / "report.json").read_text())
    except (OSError, ValueError):
        return set()
    return {row["run"] for row in content["runs"]}
