"""Whether the values of two settings measure the same, so that they can be ranked together."""

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
    """The settings that determine what a value measures and on which examples, by key.

    With fewer training examples, a setting is judged on the same ones. costs: the further
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
    """The first key by which settings are judged differently; None if they can be ranked.

    A key that only one of them has belongs to another data set, loss or trainer.
    """
    return next((key for key in first if key in now and str(first[key]) != str(now[key])), None)


def refusal(key: str) -> str:
    """Why settings that differ in this key are not ranked together."""
    kind = KINDS.get(key.partition(".")[0], EXAMPLES)
    return f"values of {kind} are not ranked together"
