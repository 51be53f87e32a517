"""Optuna's plots of a search: the history always, the importance from two different values on."""

from pathlib import Path

import matplotlib
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import create_trial

from harness.run.search import plots

HISTORY, IMPORTANCE = "plots/search_history.png", "plots/search_importance.png"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.1], [HISTORY]),
        ([0.1, 0.1], [HISTORY]),
        ([0.1, 0.3, 0.2, 0.4], [HISTORY, IMPORTANCE]),
    ],
)
def test_the_plots_of_a_search(tmp_path: Path, values: list[float], expected: list[str]) -> None:
    study = optuna.create_study()
    for number, value in enumerate(values):
        study.add_trial(
            create_trial(
                params={"lr": 0.1 * (number + 1), "momentum": 0.9 - 0.1 * number},
                distributions={"lr": FloatDistribution(0, 1), "momentum": FloatDistribution(0, 1)},
                value=value,
            )
        )
    matplotlib.use("svg")
    style = dict(matplotlib.rcParams)
    assert plots.search(tmp_path, study, "validation loss") == expected
    assert dict(matplotlib.rcParams) == style
    assert matplotlib.get_backend() == "svg"
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == [
        Path(path).name for path in expected
    ]
    for path in expected:
        assert (tmp_path / path).read_bytes().startswith(b"\x89PNG")
