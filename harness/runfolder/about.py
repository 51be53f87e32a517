"""The name, note and question that a user gives a run or a sweep.

A command takes `name=TEXT`, `note=TEXT` and `question=TEXT`. The question of a sweep is written
before its first job starts and is fixed once a run has finished. A report shows it with the answer.
"""

import re
from dataclasses import dataclass, replace

from harness.runfolder.filters import FILTER

MOST_NAME, MOST_TEXT = 100, 4000  # characters; MLflow's tags have 5000
NOTE = "mlflow.note.content"  # the tag that MLflow shows as a run's description
RESERVED = re.compile(r"last(?:~\d+)?$|since=")  # in a selection
SWEEP_NAME, SWEEP_NOTE = "sweep.name", "sweep.note"  # tags of the runs of a sweep


@dataclass(frozen=True)
class About:
    """The texts that the user gave; the others are empty.

    asked_after: how many runs of the sweep had finished when its question was asked.
    """

    name: str = ""
    note: str = ""
    question: str = ""
    asked_after: int = 0

    def check(self) -> None:
        """Raise `ValueError` naming the first invalid value."""
        if RESERVED.match(self.name) or FILTER.match(self.name):
            raise ValueError(
                f"name={self.name}: has a special meaning when runs are selected; choose another "
                "name"
            )
        for key, most in (("name", MOST_NAME), ("note", MOST_TEXT), ("question", MOST_TEXT)):
            value = getattr(self, key)
            if len(value) > most:
                raise ValueError(f"{key}=: expected at most {most} characters, found {len(value)}")
            if key == "name" and not value.isprintable():
                raise ValueError(f"name={value!r}: expected one line of printable characters")

    def then(self, now: "About", finished: int) -> "About":
        """Return these texts updated with those of a later command; empty ones change nothing.

        finished: how many runs of the sweep have finished. Raises `ValueError` if the question
        changes after a run has finished.
        """
        about = replace(self, name=now.name or self.name, note=now.note or self.note)
        if not now.question or now.question == self.question:
            return about
        if self.question and finished:
            raise ValueError(
                f"question={now.question}: {finished} run(s) of this sweep have finished, so its "
                f"question, {self.question!r}, can no longer change; leave question= out"
            )
        return replace(about, question=now.question, asked_after=finished)

    def tags(self) -> dict[str, str]:
        """The tags of a sweep's runs."""
        tags = {SWEEP_NAME: self.name, SWEEP_NOTE: self.note}
        return {key: value for key, value in tags.items() if value}
