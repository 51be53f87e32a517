"""Selected runs, read again during training: the standing of each, and the time left."""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from harness.run.estimate import duration
from harness.run.standing import Standing, left_in_all_s, standings
from harness.run.standing_table import state
from harness.runfolder.history import History
from harness.runfolder.plan import Plan
from harness.runfolder.run import Run
from harness.runfolder.selection import Folders, listed, select
from harness.runfolder.status import RunStatus

ORDER = (
    RunStatus.RUNNING, RunStatus.FAILED, RunStatus.KILLED, RunStatus.DAMAGED, RunStatus.FINISHED,
    RunStatus.CREATED,
)  # fmt: skip


class Watched:
    """The runs of a selection. all: where each stands; rows: those that have begun.

    Of the rows, running ones come first.
    """

    def __init__(self, outputs: Folders, words: Sequence[str]) -> None:
        """Raises `ValueError` if the words select no run."""
        self._outputs, self._words = outputs, words
        self._known: dict[Path, tuple[tuple[int, int], History]] = {}
        self.list()
        if not self._selected.runs:
            where = ", ".join(map(str, listed(outputs)))
            raise ValueError(f"{self._selected.title}: none of its runs is in {where}")
        self.read()

    def list(self) -> None:
        """Look for new runs, and drop runs that were removed meanwhile.

        Raises `ValueError` if the words no longer select anything.
        """
        self._selected = select(self._outputs, self._words)

    def read(self) -> None:
        """Read the journals that have grown."""
        runs = {run.id: run for run in self._selected.runs}
        histories = [found for run in runs.values() if (found := self._history(run)) is not None]
        self.all = standings(histories, lambda history: runs[history.run].is_live())
        begun = [each for each in self.all if each.status is not RunStatus.CREATED]
        self.rows = sorted(begun, key=partial(_place, kinds=[each.kind for each in self.all]))

    def _history(self, run: Run) -> History | None:
        try:
            about = run.journal.stat()
            signature = (about.st_size, about.st_mtime_ns)
            before = self._known.get(run.folder)
            if before is None or before[0] != signature:
                self._known[run.folder] = signature, run.history()
            return self._known[run.folder][1]
        except (OSError, ValueError):  # it was removed
            return None

    @property
    def plan(self) -> Plan | None:
        """The plan, if the selection is one sweep."""
        return self._selected.plan

    @property
    def names(self) -> dict[str, str]:
        """The names of the runs of a sweep, by run."""
        return {} if self.plan is None else self.plan.names

    def run(self, standing: Standing) -> Run:
        """The run that stands there."""
        return next(each for each in self._selected.runs if each.id == standing.history.run)

    def heading(self) -> str:
        """What is watched, how many runs of it are in which state, and the time left."""
        title = self._selected.title if self.plan is None else f"sweep {self.plan.title}"
        kinds = [each.kind for each in self.all]
        counts = Counter(map(state, sorted(self.all, key=partial(_place, kinds=kinds))))
        parts = [f"{count} {words}" for words, count in counts.items()]
        left = left_in_all_s(self.all)
        if left is not None:
            parts.append(f"{duration(left)} left")
        return f"{title}: {', '.join(parts)}"


def _place(standing: Standing, kinds: Sequence[object]) -> tuple[int, tuple[float, ...]]:
    """Running ones first, then those that failed, then finished and pruned ones by rank.

    kinds: of all runs; those of the first kind come first, because they have ranks of their own.
    """
    status = RunStatus.FINISHED if standing.history.is_pruned else standing.status
    is_over = status is RunStatus.FINISHED
    ranks = standing.ranks if is_over and standing.ranks else (0, 0)
    value = standing.objective.order(standing.value) if is_over else 0.0
    kind = kinds.index(standing.kind) if is_over else 0
    return ORDER.index(status), (kind, ranks[0], value)
