"""Runs, curves and settings as pandas data frames: `harness.runs`, `harness.curves`, ...

The arguments of each are a selection as on the command line (see `runfolder.selection`), or runs
and sweeps as objects. Without arguments they are all runs in outputs, or in the store `uri`.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from harness.analysis import fields
from harness.job import machine
from harness.nn import metrics
from harness.runfolder.cost import PARAMETERS
from harness.runfolder.folder import check_outputs
from harness.runfolder.run import Run
from harness.runfolder.sweep import Sweep
from harness.tracking import selection as selecting
from harness.tracking.errors import StoreError
from harness.tracking.recorded import Recorded
from harness.tracking.selection import Selection

if TYPE_CHECKING:
    import pandas as pd

    from harness.analysis.measure import Measure

    Frame: TypeAlias = pd.DataFrame
    Word: TypeAlias = str | Run | Sweep

Place: TypeAlias = str | Path | Sequence[str | Path]
"""An outputs folder, or several that are read as one."""
ONCE = ("test/", "best/", machine.PREFIX, PARAMETERS)  # metrics with one value a run
SEED = "seed"
FORMATS = ("csv", "parquet", "json")


def runs(
    *selection: "Word", outputs: Place = "outputs", uri: str | None = None,
    every_setting: bool = False,
) -> "Frame":  # fmt: skip
    """One row per run: id, name, status, times, settings, and the last value of each metric.

    Settings are in dotted columns, typed by their values (a list stays text): the seed and those
    that differ, or all with `every_setting`. For another program, a setting with the name of a
    metric or another column becomes `params.NAME`, and such a metric `metrics.NAME`. `sweep` is one
    that all runs share, else the newest of each. `created` and `ended` are UTC; `seconds` is the
    training time and `epochs_done` the number of recorded epochs; NaN and 0 if another program did
    not log `time/epoch_s`. Raises `ValueError` if a selection matches nothing or a store does not
    answer.
    """
    import pandas as pd

    recorded = _select(selection, outputs, uri, (metrics.EPOCH_S,)).recorded
    keys = dict.fromkeys(key for run in recorded for key in run.params)
    kept = [key for key in keys if every_setting or key == SEED or _differs(key, recorded)]
    measured = sorted(dict.fromkeys(key for run in recorded for key in run.final))
    columns: dict[str, Any] = {
        "run": [run.run for run in recorded],
        "name": [run.name for run in recorded],
        "status": [run.status.value for run in recorded],
        "sweep": _sweeps(recorded),
        "created": _times([run.created_ms for run in recorded]),
        "ended": _times([run.ended_ms for run in recorded]),
        "epochs_done": [len(run.curves.get(metrics.EPOCH_S, ())) for run in recorded],
        "seconds": list(map(_seconds, recorded)),
    }
    taken = columns.keys() | set(measured)  # another program can use any names
    for key in kept:
        name = f"params.{key}" if key in taken else key
        columns[name] = typed([run.params.get(key) for run in recorded])
    for key in measured:
        name = f"metrics.{key}" if key in columns else key
        columns[name] = np.array([run.final.get(key, math.nan) for run in recorded], np.float64)
    return pd.DataFrame(columns)


def _seconds(run: Recorded) -> float:
    """The training time; NaN where another program did not record it."""
    is_own = run.run != run.location  # another program's has no id but that of MLflow
    if metrics.EPOCH_S not in run.curves and not is_own:
        return math.nan
    return float(run.curves.get(metrics.EPOCH_S, np.zeros(0)).sum())


def _sweeps(recorded: Sequence[Recorded]) -> list[str | None]:
    """The sweep of each run; see `runs`."""
    of_runs = [run.tags.get("sweep", "").split(",") for run in recorded]
    common = set.intersection(*map(set, of_runs)) if of_runs else set()
    return [next((s for s in own[::-1] if s in common), own[-1]) or None for own in of_runs]


def curves(
    *selection: "Word", outputs: Place = "outputs", uri: str | None = None,
    only: str | Sequence[str] | None = None,
) -> "Frame":  # fmt: skip
    """One row for each value: run, epoch, metric, value. only: one or several metrics.

    Merge it with `runs` on `run` to have the settings beside each value. Raises like `runs`, and
    `ValueError` for a metric that no run has by epoch, if the runs have others.
    """
    import pandas as pd

    only = (only,) if isinstance(only, str) else only
    chosen = _select(selection, outputs, uri, only)
    parts = [
        (number, key, run.epochs[key], values)
        for number, run in enumerate(chosen.recorded)
        for key, values in run.curves.items()
        if key in run.epochs and (only is None or key in only)
    ]
    names = sorted({key for _, key, _, _ in parts})
    _check_known(only or (), names, chosen)
    lengths = [len(values) for *_, values in parts]
    ids = np.repeat([number for number, *_ in parts], lengths).astype(np.int64)
    of = np.repeat([names.index(key) for _, key, _, _ in parts], lengths).astype(np.int64)
    return pd.DataFrame(
        {
            "run": pd.Categorical.from_codes(ids, [run.run for run in chosen.recorded]),
            "epoch": np.concatenate([np.zeros(0, np.int64), *(each for _, _, each, _ in parts)]),
            "metric": pd.Categorical.from_codes(of, names),
            "value": np.concatenate([np.zeros(0), *(values for *_, values in parts)]),
        }
    )


def settings(
    *selection: "Word", outputs: Place = "outputs", uri: str | None = None,
    metric: str | None = None, test_metric: str | None = None, seed_key: str | None = None,
    setting: Sequence[str] = (),
) -> "Frame":  # fmt: skip
    """The ranking of `python -m harness compare`: one row per setting, best first.

    Columns: swept values; n, mean, sd, best and worst over seeds; the verdict against the best with
    p (Holm); and how many seeds would tell them apart. Measured numbers are float64, NaN if
    missing. metric, test_metric, seed_key, setting: like the command's options, for runs of any
    program. A `UserWarning` names what was left out. Raises like `runs`, and `ValueError` if there
    is nothing to compare.
    """
    from harness.analysis.measure import Measure

    patterns = (setting,) if isinstance(setting, str) else setting
    return ranking(
        selection, outputs, uri, Measure.of(metric, test_metric, seed_key, patterns), depth=3
    )


def ranking(
    selection: Sequence["Word"], outputs: Place, uri: str | None,
    measure: "Measure | None" = None, depth: int = 2,
) -> "Frame":  # fmt: skip
    """Like `settings`. measure: how to read the runs. depth: the stack depth of the warning."""
    import warnings

    import pandas as pd

    from harness.analysis import ranked

    notes: list[str] = []
    chosen = _select(selection, outputs, uri, ())
    standings = ranked.rank(chosen, notes, measure).standings(notes)
    for note in notes:
        warnings.warn(note, stacklevel=depth)
    frame = pd.DataFrame([fields.setting_fields(standing) for standing in standings])
    values = standings[0].setting.values
    for key in frame.columns:
        if key in values:
            frame[key] = typed(list(frame[key]))
        elif key not in fields.TEXTS and frame[key].dtype == object:  # no number is known
            frame[key] = frame[key].astype(np.float64)
    return frame


def content(frame: "Frame", form: str) -> bytes:
    """A data frame as the content of a file of one of `FORMATS`; JSON is a list of rows."""
    if form == "parquet":
        return bytes(frame.to_parquet(index=False))
    if form == "json":
        rows = [
            {key: _plain(value) for key, value in row.items()} for row in frame.to_dict("records")
        ]
        return f"{json.dumps(rows, indent=1, allow_nan=False)}\n".encode()
    return str(frame.to_csv(index=False, lineterminator="\n")).encode()


def _plain(value: Any) -> Any:
    """A cell as a JSON value: null for NaN or a missing value, text for `inf` and times."""
    if value is None or value != value:  # NaN, and the time that is none
        return None
    if isinstance(value, float) and math.isinf(value):
        return str(value)
    return value.isoformat() if hasattr(value, "isoformat") else value


def typed(texts: Sequence[str | None]) -> list[Any]:
    """Convert the texts of a setting to numbers, booleans and None.

    If one of them is other text or a list, all of them stay text, because a column has one type.
    """
    values = [None if text is None else fields.value(text) for text in texts]
    if any(isinstance(value, str | list) for value in values):
        return [None if value is None else text for text, value in zip(texts, values, strict=True)]
    return values


def _select(
    words: Sequence["Word"], outputs: Place, uri: str | None, keys: Sequence[str] | None
) -> Selection:
    """The selection with the curves of these metrics; None: of all metrics with curves."""
    for word in words:
        _check_word(word)
    names = [word if isinstance(word, str) else word.id for word in words]
    folders: Sequence[Path] = sorted({word.outputs for word in words if not isinstance(word, str)})
    if not folders:
        folders = _folders(outputs)
        for folder in folders if uri is None else ():
            check_outputs(folder)
    try:
        chosen = selecting.select(folders, names, uri)
        if keys is None:
            known = dict.fromkeys(key for run in chosen.recorded for key in run.final)
            keys = [key for key in known if not key.startswith(ONCE)]
        chosen.source.add_curves(chosen.recorded, keys)
    except StoreError as error:
        raise ValueError(str(error)) from error
    return chosen


def _check_word(word: Any) -> None:
    """Raise `ValueError` for a value that is not a selection word."""
    if not isinstance(word, str | Run | Sweep):
        hint = "; of a list, write *list" if isinstance(word, list | tuple | set) else ""
        raise ValueError(
            f"{word!r}: expected a text such as 'last' or an id, a run, or a sweep{hint}"
        )


def _folders(outputs: Any) -> list[Path]:
    """One or several outputs folders. Raises `ValueError`."""
    given = [outputs] if isinstance(outputs, str | Path) else outputs
    if not isinstance(given, list | tuple) or not given:
        raise ValueError(f"outputs={outputs!r}: expected a folder, or a list of folders")
    return [Path(each) for each in given]


def _check_known(only: Sequence[str], found: Sequence[str], chosen: Selection) -> None:
    """Raise `ValueError` for a requested metric that was not found."""
    known = sorted({key for run in chosen.recorded for key in (*run.final, *run.curves)})
    for key in only if known else ():
        if key in found:
            continue
        if key in known:
            why = "has one value a run, which `harness.runs` and `export runs` have"
            raise ValueError(f"metric {key!r}: {why}")
        from harness.analysis.measure import expected

        of = [each for each in known if not each.startswith(ONCE)]
        raise ValueError(f"metric {key!r}: no run of {chosen.title} has it{expected(key, of)}")


def _differs(key: str, recorded: Sequence[Recorded]) -> bool:
    return len({run.params.get(key) for run in recorded}) > 1


def _times(ms: Sequence[int | None]) -> Any:
    import pandas as pd

    return pd.to_datetime(pd.Series(ms, dtype="Int64"), unit="ms", utc=True)
