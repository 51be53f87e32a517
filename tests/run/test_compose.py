"""Expanding a sweep: Hydra's grammar, Hydra's order."""

from harness.run import compose, overrides
from harness.run.compose import Job


def expand(*texts: str) -> list[Job]:
    return compose.expand(overrides.parse(list(texts)).settings, sweep=True)


def names(*texts: str) -> list[str]:
    return [job.name for job in expand(*texts)]


def test_the_signature_sweep() -> None:
    jobs = expand("batch=16,64,128")
    assert [job.name for job in jobs] == ["batch=16", "batch=64", "batch=128"]
    assert [job.config.batch for job in jobs] == [16, 64, 128]
    assert jobs[0].swept == {"batch": "16"}


def test_product_with_the_last_key_fastest() -> None:
    assert names("batch=16,32", "lr=0.5", "seed=range(2)") == [
        "batch=16,seed=0",
        "batch=16,seed=1",
        "batch=32,seed=0",
        "batch=32,seed=1",
    ]


def test_lists_groups_choices_and_globs() -> None:
    jobs = expand("width=[8,4],16")
    assert [job.config.hidden for job in jobs] == [(8, 4), (16,)]
    assert names("normalization=minmax,unit") == ["normalization=minmax", "normalization=unit"]
    assert names("batch=choice(16,64)") == ["batch=16", "batch=64"]
    assert names("normalization=glob(*,exclude=none)") == [
        "normalization=minmax",
        "normalization=standard",
        "normalization=unit",
    ]
    assert len(names("experiment=article,smoke")) == 2


def test_equal_jobs_are_one() -> None:
    assert names("batch=16,16,32") == ["batch=16", "batch=32"]
    assert names("lr=0.2,0.20") == ["lr=0.2"]


def test_a_sweep_without_several_values_is_one_job() -> None:
    assert names("batch=16") == ["batch=16"]


def test_hydra_settings_pass() -> None:
    assert names("hydra.verbose=true", "batch=16,32") == ["batch=16", "batch=32"]
