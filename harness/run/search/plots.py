"""Optuna's own plots of a search, as PNG files."""

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna import Study


def search(folder: Path, study: "Study", title: str) -> list[str]:
    """Plot the history of a search and the importance of its keys into `folder`/plots.

    title: of the objective. Returns the paths of the plots relative to `folder`. The importance
    needs at least two finished trials with different values.
    """
    from optuna.exceptions import ExperimentalWarning
    from optuna.trial import TrialState
    from optuna.visualization import matplotlib as drawing

    from harness.analysis.plots import save_pyplot

    plots: dict[str, Callable[..., Any]] = {
        "plots/search_history.png": drawing.plot_optimization_history
    }
    if len({trial.value for trial in study.get_trials(states=(TrialState.COMPLETE,))}) > 1:
        plots["plots/search_importance.png"] = drawing.plot_param_importances
    for path, draw in plots.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            save_pyplot(folder / path, partial(draw, study, target_name=title))
    return list(plots)
