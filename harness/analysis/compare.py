"""Compare recorded runs and write a report.

The runs come from MLflow, or from the journals without MLflow. A report is three files:
`outputs/reports/<name>/index.html`, `settings.csv` and `report.json`.
"""

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.analysis import comparable, evidence, fields, figures, page, ranking, search_figures
from harness.analysis.measure import Measure
from harness.analysis.outcome import Outcome, different_labels
from harness.analysis.page import Comparison, Figure
from harness.analysis.ranked import rank
from harness.analysis.ranking import SHOWN
from harness.analysis.settings import Setting
from harness.analysis.trials import Trial, trials
from harness.data.atomic import write_text
from harness.nn import metrics
from harness.runfolder.cost import Cost
from harness.runfolder.objective import Objective
from harness.runfolder.plan import Plan
from harness.runfolder.run import Run
from harness.runfolder.selection import Folders
from harness.runfolder.status import RunStatus
from harness.tracking.recorded import Recorded, from_journal
from harness.tracking.selection import Selection, of_plan


def after_sweep(plan: Plan, outputs: Path) -> str:
    """Write the report of a sweep or search, unless it is up to date; returns the line to print.

    An existing report keeps the costs that `compare --cost` gave it. The function reads the
    journals and records the report as artifacts of the best setting's chosen run. An error becomes
    part of the line, because the sweep itself is done.
    """
    folder = outputs / "reports" / plan.id
    try:
        recorded = [from_journal(run) for run in plan.readable_runs(outputs)]
        whole = of_plan(plan, recorded)
        of_task = comparable.of_one_task(whole, [])
        ranked = comparable.of_one_objective(of_task, []).recorded
        finished = {run.run for run in ranked if run.status is RunStatus.FINISHED}
        if not finished:
            return "no report: no run is finished"
        said = (plan.about.name, plan.about.note, plan.about.question)
        before = _reported(folder, plan.verdict)
        costs = tuple(dict.fromkeys((*plan.costs, *(before.costs if before else ()))))
        epochs = _epochs(_tried(whole, Objective.of(ranked[0].params)))
        if before != _Reported(finished, said, costs, epochs, has_verdict=True):
            comparison, chosen = build(replace(whole, costs=costs), outputs)
            files = write(comparison, folder)
            whole.source.attach(chosen, files, f"report/{plan.id}")
            paths = [f"report/{plan.id}/{path.name}" for path in files]
            Run(Path(chosen.location)).add_artifacts(paths)
    except Exception as error:
        return f"no report: {type(error).__name__}: {error}"
    gone, elsewhere = len(plan.jobs) - len(recorded), len(recorded) - len(of_task.recorded)
    others = len(of_task.recorded) - len(ranked)
    without = f"   (without {gone} of {len(plan.jobs)} runs, which cannot be read)" if gone else ""
    if elsewhere:
        without += f"   (without {elsewhere} of {len(plan.jobs)} runs, which have other data sets)"
    if others:
        without += f"   (without {others} of {len(plan.jobs)} runs, which have other objectives)"
    return f"report:                    {folder / 'index.html'}{without}"


def build(
    selection: Selection, outputs: Folders, measure: Measure | None = None
) -> tuple[Comparison, Recorded]:
    """Compare the selected runs; `measure` reads those of another program.

    Returns the comparison and the run it is stored with: the chosen run of the best setting. Only
    runs on the most common data set and with the most common objective are ranked. Raises
    `ValueError` if there is nothing to compare; anything else that is missing becomes a note.
    """
    notes: list[str] = []
    ranked = rank(selection, notes, measure)
    settings, chosen, source = ranked.settings, ranked.chosen, ranked.source
    runs = [ranked.finished[run.run] for setting in ranked.shown for run in setting.runs]
    if measure is None:
        source.add_curves(runs, (metrics.TRAIN_LOSS,))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        outcomes = ranked.outcomes(folder, notes)
        best = figures.Best(outcomes.get(chosen[0].run))
        if measure is None:
            images = evidence.images(chosen[0], outputs, notes)
            weights = evidence.weights(source, chosen[0], folder, notes)
            best = replace(best, images=images, weights=weights)
    if selection.is_search and len(settings) > 1 and all(len(s.runs) == 1 for s in settings):
        notes.append(
            f"the search trained each of the {len(settings)} settings that it finished with one "
            "seed, and the best of so many may be luck of the seed: train the settings ranked "
            "first with several"
        )
    if len(ranked.shown) < len(settings):
        notes.append(
            f"curves and predictions are compared for the {SHOWN} settings ranked first"
            + ("" if selection.raced else f"; tests over seeds for all {len(settings)}")
        )
    standings = ranking.stand(settings, outcomes)
    if {each.is_of_networks for each in standings if each.p is not None} == {True, False}:
        notes.append(
            "p values are of two kinds: a setting with one seed in common with the best is tested "
            "as one network against another, on the test examples, which says nothing of other "
            "seeds; the others over seeds"
        )
    pairs = ranking.pairs(ranked.shown, outcomes, notes)
    tried = _tried(selection, ranked.objective)
    shown_figures = [
        *search_figures.figures(tried, ranked.objective),
        *_figures(settings, outcomes, best, chosen[0], is_search=selection.is_search),
    ]
    count = sum(len(setting.runs) for setting in settings)
    now = time.strftime("%Y-%m-%d %H:%M")
    data = f" on {ranked.data}" if ranked.data else ""
    about = f"{count} finished run(s){data}, {len(settings)} setting(s); made {now}"
    said = selection.about
    title = f"Comparison of {selection.title}"
    title += "" if measure is None else f" by {measure.metric.metric}"
    comparison = Comparison(
        title, about, notes, standings, pairs, shown_figures,
        said.name, said.note, said.question, said.asked_after, selection.verdict,
        _epochs(tried),
    )  # fmt: skip
    return comparison, chosen[0]


def _tried(selection: Selection, objective: Objective) -> list[Trial]:
    return trials(selection, objective) if selection.is_search else []


def _epochs(tried: Sequence[Trial]) -> int | None:
    """How many epochs a search has trained; None if it is not a search."""
    return sum(trial.epochs for trial in tried) or None


def write(comparison: Comparison, folder: Path) -> list[Path]:
    """Write the page, the CSV and the JSON; returns their paths, the page first."""
    contents = {
        "index.html": page.page(comparison),
        "settings.csv": fields.to_csv(comparison.setting_rows()),
        "report.json": comparison.to_json(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in contents.items():
        write_text(folder / name, text)
    return [folder / name for name in contents]


def _figures(
    settings: list[Setting],
    outcomes: dict[str, Outcome],
    best: figures.Best,
    run: Recorded,
    *,
    is_search: bool,
) -> list[Figure]:
    highest = [max(int(o.labels.max()), int(o.predicted.max())) for o in outcomes.values()]
    names = evidence.class_names(run, 1 + max(highest, default=0))
    runner_up = _runner_up(settings, outcomes)
    return [
        *figures.curves(settings),
        *(figures.front(settings) if is_search else figures.swept(settings)),
        *figures.best(best, runner_up, settings[0].label, names),
    ]


def _runner_up(settings: list[Setting], outcomes: dict[str, Outcome]) -> tuple[str, Outcome] | None:
    """The next setting in the ranking whose chosen run has the same test examples."""
    best = outcomes.get(settings[0].chosen.run)
    for setting in settings[1:]:
        other = outcomes.get(setting.chosen.run)
        if best and other and not different_labels(best, other):
            return setting.label, other
    return None


@dataclass(frozen=True)
class _Reported:
    """An existing report. said: the sweep's name, note and question, from the user.

    epochs: those of all trials of a search, including trials without a finished run.
    """

    runs: set[str]
    said: tuple[str, str, str]
    costs: tuple[str, ...]
    epochs: int | None
    has_verdict: bool


def _reported(folder: Path, verdict: str) -> _Reported | None:
    """The existing report; None if there is none. verdict: the expected one."""
    try:
        content = json.loads((folder / "report.json").read_text())
        name, note, question = (content[key] or "" for key in ("name", "note", "question"))
        has_verdict = not verdict or verdict in (content["verdict"], *content["notes"])
        costs = tuple(str(Cost.parse(each)) for each in content.get("costs", ()))
        runs = {row["run"] for row in content["runs"]}
        epochs = content.get("epochs")
        return _Reported(runs, (name, note, question), costs, epochs, has_verdict)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):  # not there, or damaged
        return None
