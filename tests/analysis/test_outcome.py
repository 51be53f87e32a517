"""Predictions for the test examples: counted by class, and the surest mistakes."""

import numpy as np

from harness.analysis.outcome import Outcome, confidently_wrong, confusion


def test_confusion_and_the_confidently_wrong() -> None:
    predictions = Outcome(
        np.array([0, 0, 1, 2]), np.array([0, 1, 1, 0]), np.array([0.9, 0.6, 0.9, 0.8], np.float32)
    )
    assert confusion(predictions.labels, predictions.predicted, 3).tolist() == [
        [1, 1, 0],
        [0, 1, 0],
        [1, 0, 0],
    ]
    assert confidently_wrong(predictions, 5).tolist() == [3, 1]
