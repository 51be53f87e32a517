"""What tells listed commands and runs apart."""

from harness.analysis import apart

BASE = {
    "dataset.name": "mnist", "dataset.dir": "None", "epochs": "25", "batch": "10", "lr": "0.5",
    "width": "128", "optimizer.name": "sgd", "seed": "1",
}  # fmt: skip
DIGITS = "dataset=idx,dataset.dir=/data/experiments/digits,epochs=30"


def names(*given: str) -> list[str]:
    """The names of runs with these overrides."""
    settings = []
    for name in given:
        typed = dict(word.split("=") for word in apart.COMMA.split(name))
        typed |= {f"{key}.name": typed.pop(key) for key in ("dataset", "optimizer") if key in typed}
        settings.append(BASE | {key: value for key, value in typed.items() if key != "experiment"})
    return apart.names(given, settings)


def test_commands_are_shown_by_what_tells_them_apart() -> None:
    same = ["-m", "width=32", "dataset.num_val=1000"]
    assert apart.commands([[*same, "lr=1,2"], [*same, "batch=16"]]) == [
        "-m lr=1,2 …", "-m batch=16 …",
    ]  # fmt: skip
    assert apart.commands([["-m", "lr=1,2"], ["-m", "seed=1"]]) == ["-m lr=1,2", "-m seed=1"]
    assert apart.commands([[*same, "lr=1,2"]]) == ["-m width=32 dataset.num_val=1000 lr=1,2"]
    assert apart.commands([]) == []


def test_what_all_runs_have_is_left_out() -> None:
    given = ("lr=0.1,seed=1", "lr=0.2,seed=1", "lr=0.2,seed=2")
    assert names(*(f"{DIGITS},{each}" for each in given)) == [f"{each},…" for each in given]


def test_a_setting_that_others_have_without_typing_it_is_left_out() -> None:
    assert names("batch=10,epochs=25,width=128,lr=0.2", "seed=1", "seed=2") == [
        "lr=0.2,…", "seed=1", "seed=2",
    ]  # fmt: skip


def test_short_names_one_run_and_equal_runs_keep_all_words() -> None:
    assert names("batch=16", "batch=16,lr=0.5") == ["batch=16", "batch=16,lr=0.5"]
    assert names(DIGITS) == [DIGITS]
    assert names(DIGITS, DIGITS) == [DIGITS, DIGITS]
    assert apart.names(["pilot of the first experiment"], [BASE]) == [
        "pilot of the first experiment"
    ]


def test_what_is_no_setting_is_compared_as_it_is_typed() -> None:
    assert names("experiment=quick,epochs=30,batch=16", "experiment=best,epochs=30,batch=16") == [
        "experiment=quick,…", "experiment=best,…",
    ]  # fmt: skip


def test_a_list_is_one_value() -> None:
    assert names(f"{DIGITS},width=[512,256]", f"{DIGITS},width=8") == [
        "width=[512,256],…",
        "width=8,…",
    ]


def test_of_a_long_name_the_rarest_overrides_stay_that_tell_it_apart() -> None:
    long = f"{DIGITS},optimizer=adam,width=512"
    shown = names(
        *(f"{long},lr={lr},seed={seed}" for lr in (0.001, 0.002) for seed in (1, 2)),
        *(f"batch={batch},seed={seed}" for batch in (16, 32) for seed in (1, 2)),
    )
    assert shown == [
        "lr=0.001,seed=1,…", "lr=0.001,seed=2,…", "lr=0.002,seed=1,…", "lr=0.002,seed=2,…",
        "batch=16,seed=1", "batch=16,seed=2", "batch=32,seed=1", "batch=32,seed=2",
    ]  # fmt: skip
