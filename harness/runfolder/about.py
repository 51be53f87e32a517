"""What a user says about a run or a sweep: its name, a note, and the question that it decides.

`name=TEXT`, `note=TEXT` and `question=TEXT` on a command. The question of a sweep is written before
its first job starts, and stays: a report shows it with the answer.
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
    """What was said; empty texts where nothing was.

    asked_after: how many runs of the sweep had finished when its question was asked.
    """

    name: str = ""
    note: str = ""
    question: str = ""
    asked_after: int = 0

    def check(self) -> None:
        """Raise `ValueError` naming the first value that cannot be."""
        if RESERVED.match(self.name) or FILTER.match(self.name):
            raise ValueError(
                f"name={self.name}: means something else where runs are selected; type another name"
            )
        for key, most in (("name", MOST_NAME), ("note", MOST_TEXT), ("question", MOST_TEXT)):
            value = getattr(self, key)
            if len(value) > most:
                raise ValueError(f"{key}=: expected at most {most} characters, found {len(value)}")
            if key == "name" and not value.isprintable():
                raise ValueError(f"name={value!r}: expected one line of letters")

    def then(self, now: "About", finished: int) -> "About":
        """What holds after something more was said; what was not said again stays.

        finished: how many runs of the sweep have finished. Raises `ValueError` for another question
        than that before, once a run has finished.
        """
        about = replace(self, name=now.name or self.name, note=now.note or self.note)
        if not now.question or now.question == self.question:
            return about
        if self.question and finished:
            raise ValueError(
                f"question={now.question}: {finished} run(s) of this sweep have finished, and its "
                f"question was {self.question!r}; it stays: leave question= out"
            )
        return replace(about, question=now.question, asked_after=finished)

    def tags(self) -> dict[str, str]:
        """The tags of a sweep's runs."""
        tags = {SWEEP_NAME: self.name, SWEEP_NOTE: self.note}
        return {key: value for key, value in tags.items() if value}
