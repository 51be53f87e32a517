"""Check the keys and values of the metrics that a training function reports."""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from harness.runfolder.cost import PARAMETERS
from harness.runfolder.objective import Objective
from harness.runfolder.own_code import shown

ROUNDING = 1e-6  # of a mean of fractions
# The names of metrics that MLflow accepts.
NAME = re.compile(r"(?=.{1,250}$)(?!\.{1,2}(?:/|$))[\w.\- :]+(?:/(?!\.{1,2}(?:/|$))[\w.\- :]+)*")
ELSEWHERE = {
    "test": "; run.final takes those of the test set",
    "best": "; the harness adds those of the best epoch",
    **dict.fromkeys(("train", "val", "time"), "; run.log takes those of an epoch"),
}


@dataclass(frozen=True)
class Call:
    """A method of the run that takes metrics by key.

    of: what the metrics describe. parts: the first parts of their keys. example: a valid key.
    others: further valid keys.
    """

    name: str
    of: str
    parts: tuple[str, ...]
    example: str
    others: tuple[str, ...] = ()

    def checked(self, values: Any) -> dict[str, float]:
        """The metrics as Python numbers. Raises `ValueError`, one line, for the first problem."""
        if not isinstance(values, Mapping) or not values:
            raise ValueError(
                f"metrics: expected numbers by key such as {self.example} in {self.name}, found "
                f"{shown(values)}"
            )
        checked = {}
        for key, value in values.items():
            if not isinstance(key, str):
                raise ValueError(
                    f"{self.name}: expected a text such as {self.example} as the key, found {key!r}"
                )
            checked[key] = _number(key, value)
            self._check_key(key)
        return checked

    def _check_key(self, key: str) -> None:
        if not NAME.fullmatch(key):
            raise ValueError(
                f'metric {key!r}: expected a name of letters, digits, spaces and "_", "-", ".", '
                '":", with "/" between its parts, such as val/error, of at most 250 characters'
            )
        part, slash, _ = key.partition("/")
        if key not in self.others and not (slash and part in self.parts):
            allowed = " or ".join(f"{part}/NAME" for part in self.parts)
            raise ValueError(
                f"metric {key!r}: {self.name} expects metrics of the {self.of}: {allowed}"
                f"{ELSEWHERE.get(part, '')}"
            )


LOG = Call("run.log", "epoch", ("train", "val", "time"), "val/error")
FINAL = Call(
    "run.final", "test set, such as test/error", ("test",), "test/error", others=(PARAMETERS,)
)


def _number(key: str, value: Any) -> float:
    if not isinstance(value, str | bytes | bool):
        with suppress(TypeError, ValueError, OverflowError):
            return float(value)
    raise ValueError(f"metric {key!r}: expected a number, found {shown(value)}")


def check_fractions(values: Mapping[str, float]) -> None:
    """Raise `ValueError` for a metric shown in percent outside [0, 1], and a negative time."""
    for key, value in values.items():
        part, _, _ = key.partition("/")
        if part == "time" and value < 0:
            raise ValueError(f"metric {key}: expected a number of at least 0, found {value:.4g}")
        is_fraction = part != "time" and Objective(key).is_fraction
        if is_fraction and not -ROUNDING <= value <= 1 + ROUNDING:
            raise ValueError(
                f"metric {key}: expected the fraction of the examples, from 0 to 1, found "
                f"{value:.4g}; divide percent by 100, or give another quantity another name"
            )
