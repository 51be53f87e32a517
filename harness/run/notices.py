"""Print notices about a command's jobs before training, one line each on standard error."""

import sys
from functools import cache

import numpy as np

from harness.data.dataset import Dataset
from harness.data.normalization import narrow_range

NAMED = 5  # classes that a line names
FIXED_RANGE = ("minmax", "unit")  # normalizations that map the range of uint8, not that of the data


@cache
def say(line: str) -> None:
    """Print a line, at most once per command."""
    print(line, file=sys.stderr)


def doubts(name: str, data: Dataset) -> list[str]:
    """Print what makes errors on a user's data doubtful; returns the lines without the name.

    That is, examples that are in two parts, and classes without a training example. name: of the
    format or of the user's function.
    """
    lines = list(data.duplicates)
    train = data.train
    labels = train.labels if train.rows is None else train.labels[train.rows]
    counts = np.bincount(labels, minlength=data.classes) if data.classes else np.ones(1)
    if missing := [data.class_names[label] for label in np.flatnonzero(counts == 0)]:
        more = ", ..." if len(missing) > NAMED else ""
        lines.append(
            f"{len(missing)} of {data.classes} classes have no training examples: "
            f"{', '.join(missing[:NAMED])}{more}"
        )
    for line in lines:
        say(f"dataset={name}: {line}")
    return lines


def narrow_grays(normalization: str, data: Dataset) -> None:
    """Print a line if the data fills only a small part of the range that is normalized."""
    if normalization not in FIXED_RANGE:
        return
    grays = narrow_range(data.train.inputs, data.train.rows)
    if grays is not None:
        values = "gray values" if data.is_image else "values"
        say(
            f"dataset {data.name}: {values} are only {grays[0]} to {grays[1]} of 0 to 255, and "
            f"normalization={normalization} maps 0 to 255; normalization=standard adapts to them"
        )
