"""The objective: the metric by which epochs, runs, settings and trials are judged.

The key `objective` is METRIC (lower values are better) or METRIC:max. METRIC:min says explicitly
that lower is better; a metric whose name suggests otherwise needs it. Runs with different
objectives are never ranked together.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.nn import metrics

KEY, SMOOTHING = "objective", "label_smoothing"
MAX, MIN = ":max", ":min"
PARTS = {"val": "validation", "train": "training"}
BUILT_IN = ("loss", "error")  # always recorded for every part of the data
EQUAL = 1e-9  # relative: allows for the same fraction computed in two ways
# Names that end in "error" and are distances, not fractions.
DISTANCES = ("squared", "absolute", "percentage", "max", "log")


@dataclass(frozen=True)
class Objective:
    """A metric that is recorded at every epoch, such as `val/error`.

    is_max: higher values are better. Its `str` is the value of the key `objective`.
    """

    metric: str
    is_max: bool = False

    @classmethod
    def parse(cls, text: str) -> "Objective":
        """Parse the value of the key `objective`. Raises `ValueError`, one line."""
        metric, is_max = directed(text)
        part, slash, name = metric.partition("/")
        if not (part and slash and name) or set(metric) & set(" :"):
            raise ValueError(
                f"{KEY}={text}: expected a metric such as val/error or val/loss, or val/NAME:max "
                "if higher is better"
            )
        if part == "test":
            raise ValueError(
                f"{KEY}={text}: the test set is read once, after training, so it cannot choose; "
                f"choose by val/{name}"
            )
        return cls(metric, bool(is_max))

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> "Objective":
        """The objective in the settings of a recorded run.

        `DEFAULT` for a run of an earlier version, and for another program's run whose setting of
        this name means something else.
        """
        try:
            return cls.parse(str(params[KEY]))
        except (KeyError, ValueError):
            return DEFAULT

    def __str__(self) -> str:
        return f"{self.metric}{MAX}" if self.is_max else self.metric

    @property
    def part(self) -> str:
        """The part of the data that it is measured on: `val`."""
        return self.metric.partition("/")[0]

    @property
    def name(self) -> str:
        """The metric without its part: `error`."""
        return self.metric.partition("/")[2]

    def depends_on(self, key: str) -> bool:
        """Whether a setting decides what the metric measures, which makes values incomparable.

        For a loss, these are the loss and its options, and for the training loss label smoothing.
        """
        is_loss = key.partition(".")[0] == "loss" or (key == SMOOTHING and self.part == "train")
        return self.name == "loss" and is_loss

    @property
    def test_key(self) -> str:
        """The test metric of the same name, read once: `test/error`."""
        return f"test/{self.name}"

    @property
    def best_key(self) -> str:
        """The final metric with the value of the epoch whose weights count: `best/val_error`."""
        return metrics.best_key(self.metric)

    @property
    def title(self) -> str:
        """In words: `validation error`."""
        return f"{self.part_title} {self.name}"

    @property
    def short_title(self) -> str:
        """In words that fit a narrow column: `val error`."""
        return f"{self.part} {self.name}"

    @property
    def test_title(self) -> str:
        """The test metric in words: `test error`."""
        return f"test {self.name}"

    @property
    def part_title(self) -> str:
        """The part in words: `validation`."""
        return PARTS.get(self.part, self.part)

    def heading(self, text: str) -> str:
        """A title in words with a capital first letter, for the beginning of a line."""
        return text[:1].upper() + text[1:]

    @property
    def by_epoch(self) -> bool:
        """Whether one epoch of a run is judged; else, for another program's run, its last value."""
        return True

    @property
    def tested(self) -> "Objective":
        """The objective that displays and orders the values of the test metric."""
        return self

    @property
    def is_tested_apart(self) -> bool:
        """Whether the test metric differs from the metric that ranks."""
        return True

    @property
    def best_word(self) -> str:
        """The word for the best of several values: `lowest` or `highest`."""
        return "highest" if self.is_max else "lowest"

    @property
    def is_fraction(self) -> bool:
        """Whether it is a fraction in [0, 1], displayed in percent: an error or an accuracy."""
        is_share = self.name.endswith(("error", "accuracy"))
        return is_share and not any(word in self.name for word in DISTANCES)

    @property
    def counts_examples(self) -> bool:
        """Whether it is the share of examples that are right or wrong, by the predicted class."""
        return self.name in ("error", "accuracy")

    @property
    def factor(self) -> int:
        """The factor that scales a value for display: 100 for a fraction, else 1."""
        return 100 if self.is_fraction else 1

    @property
    def unit(self) -> str:
        """The suffix of an axis label: ` (%)` for a fraction, else empty."""
        return " (%)" if self.is_fraction else ""

    def format(self, value: float) -> str:
        """A value as displayed: `1.97%`, or four significant digits if not a fraction."""
        return f"{value:.2%}" if self.is_fraction else f"{value:.4g}"

    def number(self, value: float) -> str:
        """A value as a report displays it: `1.97 %`, or four significant digits."""
        return f"{100 * value:.2f} %" if self.is_fraction else f"{value:.4g}"

    def order(self, value: float | None) -> float:
        """A key that sorts the best value first, and NaN and None last."""
        if value is None or value != value:
            return float("inf")
        return -value if self.is_max else value

    def best(self, values: Iterable[float]) -> float | None:
        """The best of the values that are not NaN; None if there is none."""
        return min((v for v in values if v == v), key=self.order, default=None)

    @staticmethod
    def are_equal(first: float, second: float) -> bool:
        """Whether two values differ by rounding at most, so that neither is better."""
        return math.isclose(first, second, rel_tol=EQUAL)

    def check(self, *, is_validated: bool, names: Collection[str]) -> None:
        """Raise `ValueError`, one line, if a training run will not record it.

        is_validated: whether the data has a validation part. names: the metrics recorded for each
        part. `DEFAULT` needs no validation: without it, the last epoch counts.
        """
        known = [f"{part}/{name}" for part in PARTS for name in dict.fromkeys(names)]
        if self.metric not in known and self != DEFAULT:
            raise ValueError(f"{KEY}={self}: expected one of {', '.join(known)}")
        if self.part == "val" and not is_validated and self != DEFAULT:
            raise ValueError(
                f"{KEY}={self}: there are no validation examples; set dataset.num_val above 0, or "
                f"type {KEY}=train/{self.name}, or {KEY}={DEFAULT}, which then uses the last "
                "epoch"
            )


DEFAULT = Objective(metrics.VAL_ERROR)


def directed(text: str) -> tuple[str, bool | None]:
    """Split METRIC, METRIC:max or METRIC:min into the metric and whether higher values are better.

    The latter is None if the text does not say. Callers check the metric themselves.
    """
    for ending, is_max in ((MAX, True), (MIN, False)):
        if text.endswith(ending):
            return text.removesuffix(ending), is_max
    return text, None


def check_direction(typed: str, *, option: str = "") -> None:
    """Raise `ValueError`, one line, if a higher-is-better metric is typed without a direction.

    typed: METRIC, METRIC:max or METRIC:min; option: what is typed before it.
    """
    name, is_max = directed(typed)
    if is_max is None and metrics.is_higher_better(name):
        raise ValueError(
            f"{option}{name}: its name suggests that higher is better; type "
            f"{option}{name}:max, or {name}:min if lower is better"
        )


def metric_names(parts: Iterable[str]) -> list[str]:
    """The names of the metrics recorded for each part: the built-in ones and those in `metrics=`.

    parts: as typed; the name of `mine.parts:top2_error` is `top2_error`.
    """
    return [*BUILT_IN, *(part.rpartition(":")[2] for part in parts)]


def several(objectives: Iterable[Objective]) -> list[Objective]:
    """The distinct objectives, in order."""
    return list(dict.fromkeys(objectives))
