"""Which keys of the command are refused where they do nothing, and what the line says."""

import re

import pytest

from harness.run import misplaced_keys, overrides
from harness.runfolder.config import ConfigError


def check(*words: str, is_sweep: bool = False, is_search: bool = False) -> None:
    misplaced_keys.check(overrides.parse([*words]), is_sweep=is_sweep, is_search=is_search)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("accept=source", "accept=source: keeps finished runs of a repeated sweep; only a sweep"),
        ("until=decided", "until=decided: adds seeds to the settings of a sweep; add -m"),
        ("budget=2h", "budget=2h: limits until=decided, or a search; give one of them as well"),
        ("question=why", "question=why: only a sweep decides one; add -m"),
        ("objective=[val/error,parameters]", "objective=[METRIC,parameters]: several objectives"),
        ("sweep=paper", "sweep=paper: a file of several jobs; add -m before it"),
        ("resume=ab sweep=paper", "sweep=paper: resume continues one run; leave resume out"),
        ("resume=ab note=x", "resume=ab: the run keeps its name and note; `python -m harness no"),
    ],
)
def test_keys_of_a_sweep_in_another_command(words: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(problem)}"):
        check(*words.split())


@pytest.mark.parametrize(
    ("word", "problem"),
    [
        ("accept=source", "a search is refused when its source changed"),
        ("until=decided", "a search chooses its own jobs"),
        ("max_jobs=9", "a search has hydra.sweeper.n_trials"),
        ("sweep=paper", "a search chooses its own values; leave sweep or hydra/sweeper=optuna out"),
    ],
)
def test_keys_of_a_sweep_in_a_search(word: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{word}: .*{re.escape(problem)}$"):
        check(word, is_sweep=True, is_search=True)


def test_a_race_has_one_objective() -> None:
    with pytest.raises(ConfigError, match="until=decided looks for one best setting"):
        check("until=decided", "objective=[val/error,parameters]", is_sweep=True)


def test_a_sweep_of_known_jobs_has_no_limit() -> None:
    with pytest.raises(ConfigError, match="max_epochs=9: limits until=decided, or a search"):
        check("max_epochs=9", is_sweep=True)


def test_where_they_belong_they_are_taken() -> None:
    words = ["accept=source", "question=why", "sweep=paper", "lr=0.1,0.2"]
    check(*words, "until=decided", is_sweep=True)
    check(*words, "objective=[val/error,parameters]", is_sweep=True)
    check("question=why", "objective=[val/error,parameters]", is_sweep=True, is_search=True)
    check("budget=2h", "max_epochs=9", is_sweep=True, is_search=True)
    check("lr=0.1", "name=x", "note=y")
