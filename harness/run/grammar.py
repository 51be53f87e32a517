"""Hydra's grammar of overrides: its parser, and the values of a swept override.

All of its sweep syntax works or is refused by name: lists, choice(), range(), glob(), sort(),
shuffle() and casts work anywhere, interval() and tag() in a search.
"""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from harness.run.conf import groups
from harness.runfolder.config import ConfigError

if TYPE_CHECKING:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import Override

MAX_VALUES = 100_000  # of one key, and jobs of one command
LONG = 8  # characters; shorter values stay as typed in a name


def parser() -> "OverridesParser":
    """Hydra's parser, with choice() and shuffle() accepting whatever a list of values accepts.

    Hydra's own refuse null and drop quotes: `choice("2024",3)` would give a number.
    """
    from hydra._internal.grammar.functions import FunctionCall, Functions
    from hydra.core.override_parser.overrides_parser import OverridesParser, create_functions
    from hydra.core.override_parser.types import ChoiceSweep, Sweep

    class Completed(Functions):
        def eval(self, func: FunctionCall) -> Any:
            values = list(func.args)
            plain = not func.kwargs and not any(isinstance(each, Sweep) for each in values)
            if func.name == "choice" and values and plain:
                return ChoiceSweep(list=values)
            if func.name == "shuffle" and len(values) > 1 and plain:
                return ChoiceSweep(list=values, simple_form=True, shuffle=True)
            try:
                return super().eval(func)
            except AssertionError:
                raise ValueError("it cannot take these values") from None

    known = create_functions()
    return OverridesParser(Completed(known.definitions, known.functions))


def sweep_values(override: "Override") -> Iterator[str]:
    """The values of a swept override, as typed. Raises `ConfigError` for those that have none."""
    from hydra.core.override_parser.types import Glob, RangeSweep

    value, text = override.value(), override.input_line
    if is_interval(override):
        raise ConfigError(f"{text}: an interval is for a search; add hydra/sweeper=optuna")
    if isinstance(value, RangeSweep):
        _check_range(value, str(text))
    if not isinstance(value, Glob):
        for each in override.sweep_string_iterator():
            yield each.replace("\\:", ":")  # Hydra escapes it, which its grammar does not need
        return
    options = groups().get(override.key_or_group)
    if options is None:
        raise ConfigError(
            f"{text}: glob() selects options of a group, which {override.key_or_group} is not; "
            f"groups are {', '.join(groups())}"
        )
    found = value.filter(options)
    if not found:
        raise ConfigError(f"{text}: matches no option; there are {', '.join(options)}")
    yield from found


def short(values: Sequence[str]) -> dict[str, str]:
    """How names and tables spell the values of a key: long numbers shortened, but kept distinct."""
    if max(map(len, values), default=0) < LONG:
        return {each: each for each in values}
    from harness.analysis.settings import rounded

    fewer = rounded(values)
    return {each: fewer[each] if len(each) >= LONG else each for each in values}


def _check_range(value: Any, text: str) -> None:
    """Refuse a range without an end. Raises `ConfigError`."""
    limits = (float(value.start), float(value.stop), float(value.step))
    if not all(map(math.isfinite, limits)) or not limits[2]:
        raise ConfigError(f"{text}: expected range(START, STOP, STEP), finite, with a step not 0")
    if (limits[1] - limits[0]) / limits[2] > MAX_VALUES:
        raise ConfigError(f"{text}: expected at most {MAX_VALUES:,} values")


def is_interval(override: "Override") -> bool:
    """Whether the values are those of `interval(a, b)`."""
    from hydra.core.override_parser.types import IntervalSweep

    return isinstance(override.value(), IntervalSweep)


def is_range(override: "Override") -> bool:
    """Whether the values are those of `range(a, b)`."""
    from hydra.core.override_parser.types import RangeSweep

    return isinstance(override.value(), RangeSweep)


def tags(override: "Override") -> set[str]:
    """The words of `tag(WORD, ...)` around the values."""
    from hydra.core.override_parser.types import Sweep

    value = override.value()
    return set(value.tags) if isinstance(value, Sweep) else set()


def check_swept_once(overrides: "list[Override]") -> None:
    """Refuse a swept key that is given again later: its sweep would have no effect.

    Raises `ConfigError`.
    """
    swept: dict[str, Override] = {}
    for override in overrides:
        earlier = swept.get(override.key_or_group)
        if earlier is not None:
            raise ConfigError(
                f"{override.input_line}: {earlier.input_line} is given as well; give a swept key "
                "once"
            )
        if override.is_sweep_override():
            swept[override.key_or_group] = override
