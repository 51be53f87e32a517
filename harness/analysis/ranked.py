"""The settings of a selection in the order of their objective, and the tests between them.

Nothing here draws, so that a table needs no Matplotlib.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.analysis import comparable, evidence, ranking
from harness.analysis.measure import Measure
from harness.analysis.outcome import Outcome
from harness.analysis.ranking import SHOWN, Standing
from harness.analysis.seed_run import SEED, SeedRun
from harness.analysis.settings import Setting, group
from harness.nn import metrics
from harness.runfolder.objective import Objective
from harness.runfolder.plan import AFTERWARDS, DECIDED
from harness.runfolder.run import PREDICTIONS
from harness.runfolder.status import RunStatus
from harness.tracking.recorded import Recorded, Source
from harness.tracking.selection import Selection

UNNAMED = "dataset"  # MLflow's name of one that got none
SAME = 1e-4  # an error that predictions give, and the one that was logged


@dataclass(frozen=True)
class Ranked:
    """The settings of a selection, best first, and the finished runs by id."""

    source: Source
    settings: list[Setting]
    finished: dict[str, Recorded]

    @property
    def shown(self) -> list[Setting]:
        """The settings whose predictions and curves are compared."""
        return self.settings[:SHOWN]

    @property
    def chosen(self) -> list[Recorded]:
        """The chosen run of each setting that is shown."""
        return [self.finished[setting.chosen.run] for setting in self.shown]

    @property
    def data(self) -> str:
        """The names of the data sets, at most three; empty if unknown."""
        known = [run.dataset for run in self.finished.values() if "name" in run.dataset]
        names = {str(dataset["name"]) for dataset in known}
        if not self.objective.by_epoch:
            names -= {UNNAMED}
        return ", ".join(sorted(names)[:3])

    def standings(self, notes: list[str]) -> list[Standing]:
        """The tests against the best setting. notes: receives what is missing for them."""
        with tempfile.TemporaryDirectory() as temporary:
            outcomes = self.outcomes(Path(temporary), notes)
            return ranking.stand(self.settings, outcomes)

    def outcomes(self, folder: Path, notes: list[str]) -> dict[str, Outcome]:
        """The predictions of the chosen runs by run id. folder: for downloads.

        Runs of another program can lack them: one note says so, and only their metric counts.
        """
        if self.objective.by_epoch:
            return _outcomes(self.source, self.chosen, folder, notes)
        if not self.objective.tested.counts_examples:
            return {}
        missing: list[str] = []
        found = _outcomes(self.source, self.chosen, folder, missing)
        tests = {setting.chosen.run: setting.chosen.test for setting in self.shown}
        is_max = self.objective.tested.name.endswith("accuracy")
        same = {
            run: each
            for run, each in found.items()
            if abs(float(each.wrong.mean()) - (1 - tests[run] if is_max else tests[run])) < SAME
        }
        if len(same) < len(found):
            notes.append(
                f"the predictions of {len(found) - len(same)} chosen run(s) do not give their "
                f"{self.objective.test_key} and are not used"
            )
        if missing and found:
            notes.append(f"{len(missing)} chosen run(s) have no readable {PREDICTIONS}")
        return same

    @property
    def objective(self) -> Objective:
        """The objective of all runs."""
        return self.settings[0].objective


def rank(selection: Selection, notes: list[str], measure: Measure | None = None) -> Ranked:
    """Group the finished runs of a selection into settings, and order them by their objective.

    measure: how to read the runs, None for this program's runs. notes: receives what was left out.
    Raises `ValueError` if there is nothing to compare.
    """
    notes.extend(selection.notes)
    finished, runs = measure.read(selection, notes) if measure else _own(selection, notes)
    settings = group([replace(run, is_raced=run.run in selection.raced) for run in runs], notes)
    by_id = {run.run: run for run in finished}
    order = ranking.ordered(settings, notes)
    if selection.is_search or selection.is_raced:
        order = ranking.whole_first(order, notes)
    if selection.is_raced:
        order = _with_ended(order, selection)
    elif raced := sum(setting.is_raced for setting in settings):
        notes.append(
            f"{raced} of {len(settings)} setting(s) have runs of a sweep with until=decided and "
            f"are tested against no other. {AFTERWARDS}"
        )
    return Ranked(selection.source, order, by_id)


def _with_ended(settings: Sequence[Setting], selection: Selection) -> list[Setting]:
    """The settings, best first, marking those that the rule gave no more seeds.

    A setting with a run that is unfinished or missing is not marked: that explains its fewer seeds.
    """
    most, is_decided = settings[0].best_val.n, selection.verdict.startswith(DECIDED)
    known = {i for i, each in enumerate(settings) if selection.ended & {r.run for r in each.runs}}
    lacking = {
        i for i, each in enumerate(settings) if selection.lacking & {r.run for r in each.runs}
    }
    open_runs = [run for run in selection.recorded if run.status is not RunStatus.FINISHED]
    unfinished = [_unseeded(evidence.seed_run(run)) for run in open_runs]
    return [
        replace(each, is_ended=_unseeded(each.runs[0]) not in unfinished and place not in lacking)
        if place in known or each.best_val.n < most or (is_decided and each is not settings[0])
        else each
        for place, each in enumerate(settings)
    ]


def _unseeded(run: SeedRun) -> dict[str, str]:
    return {key: value for key, value in run.settings.items() if key != SEED}


def _own(selection: Selection, notes: list[str]) -> tuple[list[Recorded], list[SeedRun]]:
    """This program's finished runs on one data set with one objective, and their values."""
    selection = comparable.of_one_objective(comparable.of_one_task(selection, notes), notes)
    finished = comparable.finished(selection, notes)
    objective = Objective.of(finished[0].params)
    selection.source.add_curves(finished, (objective.metric, metrics.EPOCH_S))
    return finished, evidence.seed_runs(selection, finished)


def _outcomes(
    source: Source, chosen: Sequence[Recorded], folder: Path, notes: list[str]
) -> dict[str, Outcome]:
    """The predictions of runs by run id. folder: for downloads. notes: gets each reason once."""
    found: dict[str, Outcome] = {}
    missing: dict[str, list[str]] = {}
    for run in chosen:
        of_run: list[str] = []
        if outcome := evidence.outcome(source, run, folder, of_run):
            found[run.run] = outcome
        for note in of_run:
            why = note.removeprefix(f"{run.run}: ").replace(f" in {run.location}", "")
            missing.setdefault(why, []).append(note)
    notes += [
        each[0] if len(each) == 1 else f"{len(each)} runs: {why}" for why, each in missing.items()
    ]
    return found
