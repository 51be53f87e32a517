"""The objective: its text, its direction, its keys, and how values of it are displayed."""

import math

import pytest

from harness.runfolder.objective import DEFAULT, Objective, check_direction, metric_names, several

LOSS, TOP = Objective("val/loss"), Objective("val/top2_accuracy", is_max=True)


def test_the_text_is_the_value_of_the_key() -> None:
    for text, expected in (("val/error", DEFAULT), ("val/loss", LOSS),
                           ("val/top2_accuracy:max", TOP)):  # fmt: skip
        assert Objective.parse(text) == expected
        assert str(expected) == text
    assert Objective.parse("val/loss:min") == LOSS


@pytest.mark.parametrize("text", ["", "error", "val/", "/error", "val/x:mim", "val/x:", "a b/c"])
def test_what_is_no_metric_is_one_line(text: str) -> None:
    with pytest.raises(ValueError, match=f"^objective={text}: expected a metric such as val/err"):
        Objective.parse(text)


@pytest.mark.parametrize(
    "name",
    ["accuracy", "top2_accuracy", "R2", "macro_f1", "auc", "ROC-AUC", "score", "examples_per_s"],
)
def test_a_metric_that_is_better_when_higher_needs_a_direction(name: str) -> None:
    with pytest.raises(ValueError, match=r"its name suggests") as raised:
        check_direction(f"val/{name}", option="objective=")
    assert str(raised.value) == (
        f"objective=val/{name}: its name suggests that higher is better; type "
        f"objective=val/{name}:max, or val/{name}:min if lower is better"
    )
    check_direction(f"val/{name}:max")
    check_direction(f"val/{name}:min")


@pytest.mark.parametrize("name", ["error", "loss", "top2_error", "r2d2", "inaccuracy", "log_loss"])
def test_other_metrics_may_be_minimized(name: str) -> None:
    check_direction(f"val/{name}")


def test_the_test_set_is_no_objective() -> None:
    with pytest.raises(ValueError, match=r"read once, after training.*; choose by val/loss$"):
        Objective.parse("test/loss")


@pytest.mark.parametrize("params", [{}, {"objective": "reg:squarederror"}, {"objective": None}])
def test_a_run_without_an_objective_of_ours_has_the_default(params: dict[str, object]) -> None:
    assert Objective.of(params) == DEFAULT
    assert Objective.of(params | {"objective": "val/loss"}) == LOSS


def test_the_keys_and_titles() -> None:
    assert (DEFAULT.best_key, DEFAULT.test_key) == ("best/val_error", "test/error")
    assert (TOP.best_key, TOP.test_key) == ("best/val_top2_accuracy", "test/top2_accuracy")
    assert (LOSS.title, LOSS.short_title) == ("validation loss", "val loss")
    assert (LOSS.test_title, Objective("train/loss").title) == ("test loss", "training loss")


def test_the_best_of_several_values() -> None:
    values = [math.nan, 0.3, 0.1, 0.2]
    assert (LOSS.best(values), TOP.best(values)) == (0.1, 0.3)
    assert LOSS.best([math.nan]) is None
    assert sorted(values, key=TOP.order)[:3] == [0.3, 0.2, 0.1]
    assert sorted([None, 0.2, 0.1], key=LOSS.order) == [0.1, 0.2, None]


@pytest.mark.parametrize(
    ("name", "is_fraction"),
    [
        ("error", True), ("accuracy", True), ("top2_error", True), ("balanced_accuracy", True),
        ("loss", False), ("mean_squared_error", False), ("mean_absolute_error", False),
        ("max_error", False), ("f1", False),
    ],
)  # fmt: skip
def test_only_fractions_are_shown_in_percent(name: str, is_fraction: bool) -> None:
    one = Objective(f"val/{name}")
    assert one.format(0.0123) == ("1.23%" if is_fraction else "0.0123")
    assert (one.factor, one.unit) == ((100, " (%)") if is_fraction else (1, ""))


def test_what_will_not_be_recorded_is_refused() -> None:
    names = metric_names(["mine.parts:top2_error"])
    assert names == ["loss", "error", "top2_error"]
    Objective("val/top2_error").check(is_validated=True, names=names)
    Objective("train/loss").check(is_validated=False, names=names)
    DEFAULT.check(is_validated=False, names=())
    with pytest.raises(ValueError, match="expected one of val/loss, val/error, val/top2_error, tr"):
        Objective("val/top3_error").check(is_validated=True, names=names)
    with pytest.raises(ValueError, match=r"no validation examples; set dataset\.num_val above 0"):
        LOSS.check(is_validated=False, names=names)


def test_different_objectives_in_order() -> None:
    assert several([LOSS, DEFAULT, Objective("val/loss")]) == [LOSS, DEFAULT]


@pytest.mark.parametrize(
    ("metric", "key", "depends"),
    [
        ("val/loss", "loss", True),
        ("val/loss", "loss.scale", True),
        ("val/loss", "label_smoothing", False),
        ("train/loss", "label_smoothing", True),
        ("train/error", "label_smoothing", False),
        ("val/error", "loss", False),
        ("parameters", "loss", False),
    ],
)
def test_what_a_metric_measures(metric: str, key: str, depends: bool) -> None:
    assert Objective(metric).depends_on(key) == depends
