"""The numbers of a comparison for programs: the fields of settings.csv and report.json."""

import ast
import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.analysis.ranking import Pair, Standing
from harness.analysis.seed_run import SEED, SeedRun
from harness.analysis.settings import CODE, DATA, NOTHING, Setting, Summary

Fields = dict[str, Any]  # name -> number or text, None if unknown
TEXTS = ("chosen_run", "against_best", "tested", "seeds_to_tell")  # the others are numbers
WORDS = {"True": True, "False": False, "None": None, "true": True, "false": False, "null": None}


def setting_fields(standing: Standing) -> Fields:
    """The numbers of one setting; errors are fractions, times are seconds.

    The fields of the objective and of its test metric have their names: `val_loss_best_epoch_mean`.
    """
    if not standing.setting.objective.by_epoch:
        return _named_fields(standing)
    setting, (measured, test) = standing.setting, _names(standing.setting)
    chosen = setting.chosen
    low, high = chosen.test_interval
    fields: Fields = {"rank": standing.rank, **setting.values, "n": len(setting.runs)}
    for name, summary in (
        (f"{measured}_best_epoch", setting.best_val),
        (f"{measured}_last_epoch", setting.last_val),
        (test, setting.test),
    ):
        fields |= _summary_fields(name, summary)
    fields |= {
        "best_epoch_mean": setting.epoch.mean,
        "chosen_run": chosen.run,
        f"chosen_{test}": chosen.test,
        "chosen_test_low": low,
        "chosen_test_high": high,
        **_verdict_fields(standing),
        "seconds_mean": setting.seconds.mean,
        **_cost_fields(standing),
    }
    return _without_nan(fields)


def _named_fields(standing: Standing) -> Fields:
    """The numbers of one setting of another program: one or two metrics under their own names."""
    setting, (measured, test) = standing.setting, _names(standing.setting)
    fields: Fields = {"rank": standing.rank, **setting.values, "n": len(setting.runs)}
    for name, summary in {measured: setting.best_val, test: setting.test}.items():
        low, high = summary.interval
        fields |= _summary_fields(name, summary) | {f"{name}_low": low, f"{name}_high": high}
    fields |= {"chosen_run": setting.chosen.run, **_verdict_fields(standing)}
    return _without_nan(fields)


def _summary_fields(name: str, summary: Summary) -> Fields:
    return {
        f"{name}_mean": summary.mean,
        f"{name}_std": summary.deviation,
        f"{name}_best": summary.best,
        f"{name}_worst": summary.worst,
    }


def _verdict_fields(standing: Standing) -> Fields:
    return {
        "against_best": standing.verdict,
        "test_difference": standing.difference,
        "p_holm": standing.p,
        "tested": standing.why,
        "seeds_to_tell": standing.seeds,
    }


def _cost_fields(standing: Standing) -> Fields:
    """What a setting costs, and whether it is on the Pareto front; nothing without costs."""
    setting, fields = standing.setting, Fields()
    for cost in setting.costs:
        summary, name = setting.cost(cost), cost.metric.replace("/", "_")
        fields |= {f"{name}_mean": summary.mean, f"{name}_std": summary.deviation}
    return fields | ({"on_front": standing.on_front} if setting.costs else {})


def run_fields(setting: Setting, run: SeedRun) -> Fields:
    """The numbers of one run; errors are fractions, times are seconds."""
    low, high = run.test_interval
    measured, test = _names(setting)
    if not setting.objective.by_epoch:
        values = {measured: run.best_val, test: run.test}
        return _without_nan({"run": run.run, **setting.values, "seed": run.seed, **values})
    return _without_nan(
        {
            "run": run.run,
            **setting.values,
            "seed": run.seed,
            f"{measured}_best_epoch": run.best_val,
            "best_epoch": run.best_epoch,
            f"{measured}_last_epoch": run.last_val,
            test: run.test,
            "test_low": low,
            "test_high": high,
            "seconds": run.seconds,
            **{cost.metric.replace("/", "_"): run.costs[str(cost)] for cost in setting.costs},
        }
    )


def _names(setting: Setting) -> tuple[str, str]:
    """The objective and its test metric as field names: `val_error` and `test_error`."""
    objective = setting.objective
    return objective.metric.replace("/", "_"), objective.test_key.replace("/", "_")


def pair_fields(pair: Pair, settings: Sequence[Setting]) -> Fields:
    """The numbers of one pair of settings on the same test examples."""
    return {
        "first": settings[pair.first].label,
        "second": settings[pair.second].label,
        "only_first_wrong": pair.only_first,
        "only_second_wrong": pair.only_second,
        "p_holm": pair.p,
    }


def value(text: str) -> Any:
    """The value of a setting from its text: a number, a boolean, None or a list, else the text.

    Like `settings.number`, does not take `64_32` for a number.
    """
    if text in WORDS:
        return WORDS[text]
    for kind in () if "_" in text else (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    if text.startswith("["):
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError):  # such as [a,b], whose texts have no quotes
            pass
    return text


def typed(row: Fields, settings: Iterable[str]) -> Fields:
    """The fields of a row as JSON values: converts these settings and the seed from text.

    None means that a run does not have the setting. Non-finite numbers and digests stay text.
    """
    named = {SEED, *settings} - {DATA, CODE}
    return {
        key: _json(each) if key in named and isinstance(each, str) else each
        for key, each in row.items()
    }


def _json(text: str) -> Any:
    known = None if text in ("", NOTHING) else value(text)
    return text if isinstance(known, float) and not math.isfinite(known) else known


def to_csv(rows: Sequence[Fields]) -> str:
    """The rows below a header; numbers in full precision, None as an empty field."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def to_json(content: Mapping[str, Any]) -> str:
    """Indented JSON; raises `ValueError` for NaN."""
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _without_nan(fields: Fields) -> Fields:
    return {key: None if value != value else value for key, value in fields.items()}
