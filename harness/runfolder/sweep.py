"""A sweep as Python users see it: its runs, and a table of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.runfolder.plan import Plan, find_plan
from harness.runfolder.run import Run
from harness.runfolder.selection import shown_plans
from harness.runfolder.status import RunStatus

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Sweep:
    """A sweep that a command with `-m` made. outputs: the folder that holds it."""

    plan: Plan
    outputs: Path

    @classmethod
    def open(cls, outputs: Path, prefix: str) -> "Sweep":
        """The sweep whose id starts with `prefix`; `last` is the newest that is not archived.

        Raises `ValueError` for no match or several.
        """
        if prefix != "last":
            return cls(find_plan(outputs, prefix), outputs)
        plans = shown_plans(outputs)
        if not plans:
            raise ValueError(f"{outputs}: there is no sweep")
        return cls(plans[-1], outputs)

    def __repr__(self) -> str:
        return f"Sweep({self.id!r}, {len(self.plan.jobs)} runs in {str(self.outputs)!r})"

    @property
    def id(self) -> str:
        """The sweep's id."""
        return self.plan.id

    @property
    def runs(self) -> list[Run]:
        """Its runs, in the command's order, without runs that were removed since."""
        return self.plan.readable_runs(self.outputs)

    @property
    def failed(self) -> list[Run]:
        """The runs that did not finish."""
        return [run for run in self.runs if run.status is not RunStatus.FINISHED]

    def frame(self) -> "pd.DataFrame":
        """One row per run: its id, name and status, the swept settings, the final metrics."""
        import pandas as pd

        swept = dict.fromkeys(key for job in self.plan.jobs for key in job.swept)
        rows = []
        for run in self.runs:
            history = run.history()
            settings = {key: history.params.get(key, history.params.get(f"{key}.name"))
                        for key in swept}  # fmt: skip
            about = {"run": run.id, "name": history.name, "status": history.status.value}
            rows.append(about | settings | history.final)
        return pd.DataFrame(rows)
