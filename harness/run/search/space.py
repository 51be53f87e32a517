"""The space of a search, from Hydra's sweep grammar for each swept key.

lr=tag(log, interval(0.01, 1))    any number between, evenly on a logarithmic scale
width=int(interval(64, 512))      any whole number between
depth=range(1, 4)                 1, 2 or 3, in order
dropout=range(0, 0.5, 0.1)        0.0, 0.1, 0.2, 0.3 or 0.4, in order, as a sweep gives them
batch=choice(16, 64), batch=16,64, normalization=glob(*)    one of them, in no order

seed=range(5) is not searched: a setting is judged by its mean over these seeds.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.run.grammar import check_swept_once, is_interval, is_range, sweep_values, tags
from harness.run.hydra_errors import one_line_errors
from harness.run.overrides import text_of
from harness.runfolder.config import ConfigError

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from optuna import Trial


SEED = "seed"


@dataclass(frozen=True)
class Parameter:
    """One swept key: numbers from low to high (both included), or choices as typed.

    Choices with a step are in order: the values of a range of fractions. Optuna gets their indices,
    because adding steps to the lowest value would miss others by rounding.
    """

    key: str
    choices: tuple[str, ...] = ()
    low: float = 0
    high: float = 0
    step: float | None = None
    log: bool = False
    whole: bool = False

    @property
    def _is_ordered(self) -> bool:
        return bool(self.choices) and self.step is not None

    def suggest(self, trial: "Trial") -> str:
        """The trial's value, as it would be typed."""
        return self.typed(self._suggested(trial))

    def _suggested(self, trial: "Trial") -> object:
        if self._is_ordered:
            return trial.suggest_int(self.key, 0, len(self.choices) - 1)
        if self.choices:
            return trial.suggest_categorical(self.key, self.choices)
        if self.whole:
            step = int(self.step or 1)
            low, high = int(self.low), int(self.high)
            return trial.suggest_int(self.key, low, high, step=step, log=self.log)
        return trial.suggest_float(self.key, self.low, self.high, step=self.step, log=self.log)

    def typed(self, value: object) -> str:
        """A value of Optuna's as it would be typed; earlier versions had no indices."""
        if self._is_ordered and isinstance(value, int):
            return self.choices[value]
        return str(value)

    @property
    def extremes(self) -> tuple[str, ...]:
        """The extreme values: if these are valid, all are."""
        if self._is_ordered:
            return self.choices[0], self.choices[-1]
        if self.choices:
            return self.choices
        kind = int if self.whole else float
        return repr(kind(self.low)), repr(kind(self.high))


def short(value: str) -> str:
    """A value as displayed: long numbers are rounded to four significant digits."""
    try:
        return value if len(value) < 8 else f"{float(value):.4g}"
    except ValueError:
        return value


def split(overrides: "list[Override]") -> tuple[list[str], list[Parameter], tuple[str, ...]]:
    """Split overrides into the fixed ones, as typed, the space, and the seeds of each trial.

    Without a swept seed there are no seeds. Raises `ConfigError`.
    """
    check_swept_once(overrides)
    fixed: list[str] = []
    space: list[Parameter] = []
    seeds: tuple[str, ...] = ()
    for override in overrides:
        if override.is_sweep_override() and override.get_key_element().lstrip("+") == SEED:
            seeds = _seeds(override)
        elif override.is_sweep_override():
            space.append(_parameter(override))
        else:
            fixed.append(text_of(override))
    if not space:
        raise ConfigError(
            "hydra/sweeper=optuna: there is nothing to search; give a space such as "
            "'lr=tag(log, interval(0.01, 1))'"
        )
    return fixed, space, seeds


def _seeds(override: "Override") -> tuple[str, ...]:
    text = text_of(override)
    if is_interval(override):
        raise ConfigError(f"{text}: expected a list of seeds, such as {SEED}='range(1,6)'")
    return tuple(_values(override))


def _parameter(override: "Override") -> Parameter:
    key, text = override.get_key_element(), text_of(override)
    if tags(override) - {"log"} or (tags(override) and not is_interval(override)):
        raise ConfigError(f"{text}: expected no other tag than tag(log, interval(LOW, HIGH))")
    if is_interval(override):
        return _interval(override)
    values = _values(override)
    if is_range(override) and len(values) > 1:
        value: Any = override.value()
        step = abs(value.step)
        if any("." in each or "e" in each for each in values):
            return Parameter(key, choices=tuple(values), step=step)
        numbers = sorted(map(int, values))
        return Parameter(key, low=numbers[0], high=numbers[-1], step=step, whole=True)
    return Parameter(key, choices=tuple(values))


def _values(override: "Override") -> list[str]:
    """Each value once, as typed. Raises `ConfigError` if there is none."""
    text = text_of(override)
    with one_line_errors(text):
        values = list(dict.fromkeys(sweep_values(override)))
    if not values:
        raise ConfigError(f"{text}: expected at least one value")
    return values


def _interval(override: "Override") -> Parameter:
    value: Any = override.value()
    low, high = value.start, value.end
    assert low is not None, "Hydra's grammar demands both"
    assert high is not None, "Hydra's grammar demands both"
    log = "log" in value.tags
    if not -math.inf < low < high < math.inf or (log and low <= 0):
        expected = "two finite numbers above 0" if log else "two finite numbers"
        raise ConfigError(f"{text_of(override)}: expected {expected}, the lower first")
    whole = isinstance(low, int) and isinstance(high, int)
    return Parameter(override.get_key_element(), low=low, high=high, log=log, whole=whole)
