"""A metric by its own name: no words of this program, and percent only where it is a fraction."""

import pytest

from harness.analysis.named_metric import NamedMetric


def test_every_title_is_the_name() -> None:
    metric = NamedMetric("val/acc", is_max=True)
    titles = (metric.title, metric.short_title, metric.test_title, metric.name, metric.test_key)
    assert set(titles) == {"val/acc"}
    assert metric.heading("val/acc") == "val/acc"
    assert (metric.best_word, metric.by_epoch, metric.is_tested_apart) == ("highest", False, False)


def test_another_metric_is_tested_in_its_own_direction_and_unit() -> None:
    tested = NamedMetric("test_accuracy", is_max=True, is_share=True)
    metric = NamedMetric("val_loss", other=tested)
    assert metric.is_tested_apart
    assert (metric.test_title, metric.test_key) == ("test_accuracy", "test_accuracy")
    assert (metric.is_max, metric.tested.is_max) == (False, True)
    assert (metric.number(0.5), metric.tested.number(0.5)) == ("0.5", "50.00 %")


@pytest.mark.parametrize(
    ("name", "is_share", "is_fraction", "counts"),
    [
        ("val_accuracy", True, True, True),
        ("test/error", True, True, True),
        ("val_accuracy", False, False, False),  # logged in percent
        ("val/acc", True, False, False),
        ("mean_squared_error", True, False, False),
        ("f1_score", True, False, False),
    ],
)
def test_what_is_a_fraction(name: str, is_share: bool, is_fraction: bool, counts: bool) -> None:
    metric = NamedMetric(name, is_share=is_share)
    assert (metric.is_fraction, metric.counts_examples) == (is_fraction, counts)


@pytest.mark.parametrize("name", ["train/loss", "training_score", "train", "Train_loss"])
def test_a_metric_of_the_training_examples_is_known(name: str) -> None:
    assert NamedMetric(name).part == "train"
    assert NamedMetric("trainable_share").part == ""
