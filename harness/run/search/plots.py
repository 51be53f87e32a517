"""Optuna's own plots of a search, as PNG files."""

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.data.atomic import write_atomically

if TYPE_CHECKING:
    from optuna import Study


def search(folder: Path, study: "Study") -> list[str]:
    """Plot the history of a search and the importance of its keys into `folder`/plots.

    Returns the paths of the plots relative to `folder`. The importance needs at least two finished
    trials with different values.
    """
    import matplotlib

    matplotlib.use("Agg")  # Optuna draws through pyplot, which would look for a display
    from matplotlib import pyplot
    from optuna.exceptions import ExperimentalWarning
    from optuna.trial import TrialState
    from optuna.visualization import matplotlib as drawing

    plots: dict[str, Callable[..., Any]] = {
        "plots/search_history.png": drawing.plot_optimization_history
    }
    if len({trial.value for trial in study.get_trials(states=(TrialState.COMPLETE,))}) > 1:
        plots["plots/search_importance.png"] = drawing.plot_param_importances
    for path, draw in plots.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            figure = draw(study, target_name="validation error").figure
        figure.set_layout_engine("constrained")
        write_atomically(folder / path, partial(figure.savefig, format="png", dpi=110))
        pyplot.close(figure)
    return list(plots)
