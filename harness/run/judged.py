"""Decide whether the values of two settings are comparable and can be ranked together."""

from collections.abc import Mapping, Sequence

from harness.runfolder import config as configuration
from harness.runfolder.cost import Cost
from harness.runfolder.objective import KEY, SMOOTHING, Objective
from harness.runfolder.schema import Config

NUM_TRAIN, WEIGHTS = "dataset.num_train", "weights"
KINDS = {
    KEY: "different objectives",
    WEIGHTS: "the best epoch, which is never worse, and of the last",
    "loss": "different losses",
    SMOOTHING: "a training loss of different targets",
}
EXAMPLES = "different validation examples"


def judged_by(config: Config, costs: Sequence[str] = ()) -> dict[str, object]:
    """The settings, by key, that decide what a value measures and on which examples.

    `dataset.num_train` is left out: it does not change the validation examples. costs: the further
    objectives.
    """
    measured = [Objective(Cost.parse(each).metric) for each in (config.objective, *costs)]
    return {
        key: value
        for key, value in configuration.leaves(config).items()
        if key in (KEY, WEIGHTS)
        or (key.startswith("dataset.") and key != NUM_TRAIN)
        or any(metric.depends_on(key) for metric in measured)
    }


def difference(first: Mapping[str, object], now: Mapping[str, object]) -> str | None:
    """The first key in which two settings differ; None if they can be ranked together.

    A key that only one of them has is ignored: the other has another data set, loss or trainer.
    """
    return next((key for key in first if key in now and str(first[key]) != str(now[key])), None)


def refusal(key: str) -> str:
    """Why settings that differ in this key are not ranked together."""
    kind = KINDS.get(key.partition(".")[0], EXAMPLES)
    return f"values of {kind} are not ranked together"
