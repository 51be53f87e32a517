"""Apply filters in MLflow's language to the journals of runs.

    params.batch = '16' and metrics.val/error < 0.03 and tags.sweep LIKE '%3f2a%'

A filter is a list of conditions joined by `and`. Each is a key, a comparison and a value, and means
the same as in MLflow's `search_runs`. There are two extensions: a setting can be compared with a
number (`params.lr < 0.1`), and a key with a slash needs no backticks.
"""

import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from harness.data.override import suggest
from harness.runfolder.history import History
from harness.runfolder.run import Run

KINDS = {
    "metric": "metrics", "metrics": "metrics",
    "parameter": "params", "parameters": "params", "param": "params", "params": "params",
    "tag": "tags", "tags": "tags",
    "attribute": "attributes", "attributes": "attributes", "attr": "attributes",
    "run": "attributes", "dataset": "datasets", "datasets": "datasets",
}  # fmt: skip
ATTRIBUTES = ("status", "run_name", "run_id", "start_time", "end_time")
DATASETS = ("name", "digest")
TIMES = ("start_time", "end_time")  # ms since 1970
COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt,
    "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
# The start of a filter, unlike any id or name: `batch=16,seed=1` is the name of a run.
FILTER = re.compile(
    rf"\s*(?:(?:{'|'.join(KINDS)})\.|(?:{'|'.join(ATTRIBUTES)})\s*(?:[=<>!]|[a-z]+\b))",
    re.IGNORECASE,
)
TOKEN = re.compile(
    r"""\s*(?:
    (?P<comparison><=|>=|!=|=|<|>)
    |(?P<punctuation>[(),])
    |(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?![\w.])
    |(?P<text>'[^']*'|"[^"]*")
    |(?P<word>[A-Za-z_]\w*(?:\.(?:`[^`]*`|"[^"]*"|[\w./-]+))?)
    )""",
    re.VERBOSE,
)
EXAMPLE = "params.batch = '16' and metrics.val/error < 0.03"


@dataclass(frozen=True)
class Condition:
    """One condition. kind: metrics, params, tags, attributes or datasets."""

    kind: str
    key: str
    comparison: str
    value: Any

    def holds(self, fields: Mapping[str, Mapping[str, Any]]) -> bool:
        """Whether it holds for the fields of a run, by kind and key."""
        value = fields[self.kind].get(self.key)
        if self.comparison in ("IS NULL", "IS NOT NULL"):
            return (value is None) == (self.comparison == "IS NULL")
        if value is None:
            return False
        if isinstance(self.value, float):
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            return is_number and COMPARISONS[self.comparison](value, self.value)
        text = str(value)
        match self.comparison:
            case "LIKE":
                return _like(self.value).fullmatch(text) is not None
            case "ILIKE":
                return _like(self.value.lower()).fullmatch(text.lower()) is not None
            case "IN":
                return text in self.value
            case "NOT IN":
                return text not in self.value
        return COMPARISONS[self.comparison](text, self.value)


@dataclass(frozen=True)
class Filter:
    """Conditions that a run must meet, all of them."""

    conditions: tuple[Condition, ...]

    @classmethod
    def parse(cls, text: str) -> "Filter":
        """Read a filter. Raises `ValueError` naming the part that it cannot parse."""
        try:
            return cls(tuple(_conditions(_Tokens(text))))
        except ValueError as error:
            raise ValueError(
                f"{text!r} is not a filter: {error}; expected conditions such as {EXAMPLE}"
            ) from None

    def check(self, runs: Iterable[Run]) -> None:
        """Raise `ValueError` for a setting or a metric that none of the runs has."""
        histories = [run.history() for run in runs]
        known = {
            "params": {key for each in histories for key in each.params},
            "metrics": {
                key
                for each in histories
                for values in (*(epoch["metrics"] for epoch in each.epochs[-1:]), each.final)
                for key in values
            },
        }
        for each in self.conditions:
            is_asked = each.comparison in ("IS NULL", "IS NOT NULL")
            keys = known.get(each.kind)
            if histories and keys and not is_asked and each.key not in keys:
                raise ValueError(
                    f"{each.kind}.{each.key}: none of {len(histories)} runs has it"
                    f"{suggest(each.key, keys)}"
                )

    def accepts(self, run: Run) -> bool:
        """Whether every condition holds for the run, by its journal."""
        fields = _fields(run, run.history())
        return all(condition.holds(fields) for condition in self.conditions)


def _fields(run: Run, history: History) -> dict[str, Mapping[str, Any]]:
    """What MLflow knows about a run, by kind and key; settings keep their types."""
    last = history.epochs[-1]["metrics"] if history.epochs else {}
    data = history.create["dataset"]
    ids = [history.run, str(run.delivered().get("mlflow_id") or "")]
    return {
        "metrics": last | history.final,
        "params": {
            key: "None" if value is None else value for key, value in history.params.items()
        },
        "tags": history.tags,
        "attributes": {
            "status": history.status.mlflow,
            "run_name": history.name,
            "run_id": ids[1] or ids[0],
            "start_time": history.created_ms,
            "end_time": history.ended_ms,
        },
        "datasets": {"name": data.get("name"), "digest": data.get("sha256")},
    }


class _Tokens:
    """The tokens of a filter, one by one: kind and text."""

    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, str]] = []
        position, text = 0, text.rstrip()
        while position < len(text):
            if (found := TOKEN.match(text, position)) is None:
                raise ValueError(f"{text[position:].strip()!r} was not understood")
            self._tokens.append((str(found.lastgroup), found[0].strip()))
            position = found.end()

    def __bool__(self) -> bool:
        return bool(self._tokens)

    def next(self) -> tuple[str, str]:
        """Remove and return the next token. Raises `ValueError` at the end."""
        if not self._tokens:
            raise ValueError("it ends too early")
        return self._tokens.pop(0)

    def take(self, *texts: str) -> bool:
        """Remove the next token if it is one of these; return whether it was."""
        if self._tokens and self._tokens[0][1].upper() in texts:
            del self._tokens[0]
            return True
        return False


def _conditions(tokens: _Tokens) -> Iterator[Condition]:
    yield _condition(tokens)
    while tokens:
        if not tokens.take("AND"):
            raise ValueError(f"expected `and` before {tokens.next()[1]!r}")
        yield _condition(tokens)


def _condition(tokens: _Tokens) -> Condition:
    kind, key = _key(*tokens.next())
    of, word = tokens.next()
    comparison = word.upper()
    if comparison == "IS":
        negated = tokens.take("NOT")
        if not tokens.take("NULL"):
            raise ValueError("expected NULL or NOT NULL after IS")
        return Condition(kind, key, "IS NOT NULL" if negated else "IS NULL", None)
    if comparison == "NOT" and tokens.take("IN"):
        comparison = "NOT IN"
    if comparison in ("IN", "NOT IN"):
        return Condition(kind, key, comparison, _list(tokens))
    if of != "comparison" and comparison not in ("LIKE", "ILIKE"):
        raise ValueError(f"expected a comparison after {key!r}, found {word!r}")
    is_number = kind == "metrics" or key in TIMES
    value = _value(*tokens.next(), is_text=comparison in ("LIKE", "ILIKE"))
    if is_number and isinstance(value, str):
        raise ValueError(f"expected a number for {key!r}, found {value!r}")
    if isinstance(value, float) and kind not in ("metrics", "params") and not is_number:
        raise ValueError(f"expected a text in quotes for {key!r}, found {value:g}")
    return Condition(kind, key, comparison, value)


def _key(of: str, word: str) -> tuple[str, str]:
    """The kind and the key that a word names: `params.batch`."""
    name, dot, key = word.partition(".")
    if of != "word":
        raise ValueError(f"expected a key such as params.batch, found {word!r}")
    if not dot:
        name, key = "attributes", name
    if (kind := KINDS.get(name)) is None:
        raise ValueError(f"{word!r} begins with none of {', '.join(dict.fromkeys(KINDS.values()))}")
    key = key.strip('`"')
    known = {"attributes": ATTRIBUTES, "datasets": DATASETS}.get(kind)
    if known and key not in known:
        raise ValueError(f"{key!r} is none of the {kind} {', '.join(known)}")
    return kind, key


def _value(of: str, word: str, *, is_text: bool = False) -> str | float:
    if of == "number" and not is_text:
        return float(word)
    if of != "text":
        raise ValueError(f"expected a {'text' if is_text else 'number or a text'} in quotes, "
                         f"found {word!r}")  # fmt: skip
    return word[1:-1]


def _list(tokens: _Tokens) -> tuple[str, ...]:
    """Texts in parentheses."""
    if not tokens.take("("):
        raise ValueError("expected a list in parentheses after IN")
    values = [str(_value(*tokens.next(), is_text=True))]
    while tokens.take(","):
        values.append(str(_value(*tokens.next(), is_text=True)))
    if not tokens.take(")"):
        raise ValueError("expected a closing parenthesis")
    return tuple(values)


def _like(pattern: str) -> "re.Pattern[str]":
    """The regular expression of an SQL pattern: % is any text, _ any character."""
    parts = [{"%": ".*", "_": "."}.get(each, re.escape(each)) for each in pattern]
    return re.compile("".join(parts), re.DOTALL)
