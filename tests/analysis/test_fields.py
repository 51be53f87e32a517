"""The numbers of a comparison in settings.csv and report.json."""

import csv
import io
import json
import math

import pytest

from harness.analysis import fields, ranking
from harness.analysis.ranking import Pair
from harness.analysis.settings import group
from tests.analysis.conftest import seed_run

RUNS = [
    seed_run(16, 1, [0.3, 0.1, 0.2], 0.12),
    seed_run(16, 2, [0.3, 0.2, 0.4], 0.14),
    seed_run(32, 1, [0.5], math.nan),
]


def test_the_fields_of_a_setting() -> None:
    first, second = ranking.stand(ranking.ordered(group(RUNS, []), []), {})
    row = fields.setting_fields(first)
    assert (row["rank"], row["batch"], row["n"]) == (1, "16", 2)
    assert row["val_error_best_epoch_mean"] == pytest.approx(0.15)
    assert row["val_error_best_epoch_std"] == pytest.approx(0.1 / math.sqrt(2))
    assert (row["val_error_last_epoch_best"], row["val_error_last_epoch_worst"]) == (0.2, 0.4)
    assert (row["chosen_run"], row["chosen_test_error"]) == ("16-1", 0.12)
    assert row["chosen_test_low"] < 0.12 < row["chosen_test_high"]
    assert row["seconds_mean"] == 1.5
    row = fields.setting_fields(second)
    assert row["test_error_mean"] is None
    assert row["val_error_best_epoch_std"] is None


def test_csv_and_json_have_no_nan() -> None:
    settings = group(RUNS, [])
    rows = [fields.run_fields(s, run) for s in settings for run in s.runs]
    table = list(csv.DictReader(io.StringIO(fields.to_csv(rows))))
    assert [row["test_error"] for row in table] == ["0.12", "0.14", ""]
    assert [row["best_epoch"] for row in table] == ["2", "2", "1"]
    assert json.loads(fields.to_json({"runs": rows}))["runs"][2]["test_error"] is None
    with pytest.raises(ValueError, match="not JSON compliant"):
        fields.to_json({"error": math.nan})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("16", 16), ("0.5", 0.5), ("1e-05", 1e-05), ("true", True), ("False", False),
        ("null", None), ("[512, 256]", [512, 256]), ("['mine:a']", ["mine:a"]), ("[a,b]", "[a,b]"),
        ("adam", "adam"), ("inf", "inf"), ("nan", "nan"), ("-", None), ("", None), ("[", "["),
        ("64_32", "64_32"),
    ],
)  # fmt: skip
def test_settings_are_typed_in_json(text: str, value: object) -> None:
    row = fields.typed({"width": text, "data": "12345678", "chosen_run": "16"}, ("width", "data"))
    assert row == {"width": value, "data": "12345678", "chosen_run": "16"}
    assert type(row["width"]) is type(value)
    assert json.loads(fields.to_json(row)) == row


def test_the_fields_of_a_pair() -> None:
    assert fields.pair_fields(Pair(0, 1, 3, 4, 0.5), group(RUNS, [])) == {
        "first": "batch=16",
        "second": "batch=32",
        "only_first_wrong": 3,
        "only_second_wrong": 4,
        "p_holm": 0.5,
    }
