"""What a report's tables say, as plain values and as CSV and JSON."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from harness.analysis import statistics
from harness.analysis.ranking import BEST, BETTER, LOWEST, TIE, WORSE, Pair, Standing
from harness.analysis.settings import Setting, Trial

Row = dict[str, Any]


def setting_row(standing: Standing) -> Row:
    """One setting's numbers. Errors are fractions; None where something was not recorded."""
    setting = standing.setting
    chosen = setting.chosen
    low, high = interval(chosen)
    row: Row = {"rank": standing.rank, **setting.values, "n": len(setting.trials)}
    for name, summary in (
        ("val_error_best_epoch", setting.best_val),
        ("val_error_last_epoch", setting.last_val),
        ("test_error", setting.test),
    ):
        row |= {
            f"{name}_mean": summary.mean,
            f"{name}_std": summary.deviation,
            f"{name}_best": summary.best,
            f"{name}_worst": summary.worst,
        }
    row |= {
        "best_epoch_mean": setting.epoch.mean,
        "chosen_run": chosen.run,
        "chosen_test_error": chosen.test_error,
        "chosen_test_low": low,
        "chosen_test_high": high,
        "against_best": standing.verdict,
        "test_difference": standing.difference,
        "p_holm": standing.p,
        "tested": standing.why,
        "seeds_to_tell": standing.seeds,
        "seconds_mean": setting.seconds.mean,
    }
    return {key: None if value != value else value for key, value in row.items()}


def interval(trial: Trial) -> tuple[float, float]:
    """Wilson's 95 % interval of a run's test error; NaN when the number of images is unknown."""
    if not trial.test_count or math.isnan(trial.test_error):
        return math.nan, math.nan
    return statistics.wilson(round(trial.test_error * trial.test_count), trial.test_count)


def run_row(setting: Setting, trial: Trial) -> Row:
    """One run's numbers."""
    low, high = interval(trial)
    row: Row = {
        "run": trial.run,
        **setting.values,
        "seed": trial.seed,
        "val_error_best_epoch": trial.best_val,
        "best_epoch": trial.best_epoch,
        "val_error_last_epoch": trial.last_val,
        "test_error": trial.test_error,
        "test_low": low,
        "test_high": high,
        "seconds": trial.seconds,
    }
    return {key: None if value != value else value for key, value in row.items()}


def pair_row(pair: Pair, settings: Sequence[Setting]) -> Row:
    """One pair of settings on the same test images."""
    return {
        "first": settings[pair.first].label,
        "second": settings[pair.second].label,
        "only_first_wrong": pair.only_first,
        "only_second_wrong": pair.only_second,
        "p_holm": pair.p,
    }


def to_csv(rows: Sequence[Row]) -> str:
    """The rows with a header; numbers in full precision, nothing for None."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def to_json(content: Mapping[str, Any]) -> str:
    """Readable JSON without NaN."""
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def percent(value: float | None) -> str:
    """`1.97 %`, or a dash."""
    return "–" if value is None or math.isnan(value) else f"{100 * value:.2f} %"


def spread(mean: float | None, deviation: float | None) -> str:
    """`1.97 ± 0.05 %`; without the deviation when there is one seed."""
    if mean is None or deviation is None:
        return percent(mean)
    return f"{100 * mean:.2f} ± {100 * deviation:.2f} %"


def span(low: float | None, high: float | None) -> str:
    """`1.90 – 2.05 %`, or a dash."""
    if low is None or high is None:
        return "–"
    return f"{100 * low:.2f} – {100 * high:.2f} %"


def p_value(p: float | None) -> str:
    """`0.031`, `< 0.001`, or a dash."""
    return "–" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def lead(standings: Sequence[Standing]) -> str:
    """The answer in a sentence or two."""
    best = standings[0]
    row = setting_row(best)
    n, label = len(best.setting.trials), best.setting.label
    over = f"over {n} seeds" if n > 1 else "with one seed"
    val = spread(row["val_error_best_epoch_mean"], row["val_error_best_epoch_std"])
    test = spread(row["test_error_mean"], row["test_error_std"])
    if best.verdict == LOWEST:
        text = f"{label} has the lowest test error: {test} {over}."
    elif len(standings) == 1:
        text = f"{label}: validation error {val} {over}, test error {test}."
    else:
        text = (
            f"{label} has the lowest validation error: {val} {over}, each at its best epoch; its "
            f"test error is {test}."
        )
    for verdict, words in (
        (TIE, "Not distinguishable from it at 5 %"),
        (WORSE, "Worse"),
        (BETTER, "Better on the test set, though not on validation"),
    ):
        names = [each.setting.label for each in standings if each.verdict == verdict]
        more = f" and {len(names) - 6} more" if len(names) > 6 else ""
        if names:
            text += f" {words}: {', '.join(names[:6])}{more}."
    return text


def mark(verdict: str) -> str:
    """What stands before a setting in the terminal."""
    return {BEST: "*", LOWEST: "*", TIE: "=", BETTER: "+"}.get(verdict, "")
