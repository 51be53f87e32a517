"""What is said of a run or a sweep, and what of it stays."""

import pytest

from harness.runfolder.about import MOST_NAME, NOTE, SWEEP_NAME, SWEEP_NOTE, About


def test_what_is_not_said_again_stays() -> None:
    first = About().then(About(name="pilot", note="a"), 0)
    assert first == About("pilot", "a")
    assert first.then(About(note="b"), 3) == About("pilot", "b")
    assert first.then(About(), 3) == first


def test_a_question_is_asked_before_the_first_job() -> None:
    asked = About().then(About(question="16 or 32?"), 0)
    assert (asked.question, asked.asked_after) == ("16 or 32?", 0)
    assert asked.then(About(question="16 or 32?"), 4) == asked, "the command is repeated"
    assert asked.then(About(question="32 or 64?"), 0).question == "32 or 64?", "nothing ran yet"
    with pytest.raises(ValueError, match=r"question=32 or 64\?: 1 run.s. of this sweep have fin"):
        asked.then(About(question="32 or 64?"), 1)


def test_a_late_question_says_so() -> None:
    late = About(name="pilot").then(About(question="16 or 32?"), 6)
    assert late == About("pilot", "", "16 or 32?", 6)


@pytest.mark.parametrize("name", ["last", "last~1", "since=7d", "params.lr = '1'", "a\nb"])
def test_a_name_that_means_something_else_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name="):
        About(name=name).check()


@pytest.mark.parametrize("name", ["pilot", "lasting", "batch=16", "study 1", "größer"])
def test_other_names_are_accepted(name: str) -> None:
    About(name=name, note="any\ntext", question="?").check()


def test_long_texts_are_refused() -> None:
    with pytest.raises(ValueError, match="name=: expected at most 100 characters, found 101"):
        About(name="n" * (MOST_NAME + 1)).check()
    with pytest.raises(ValueError, match="note=: expected at most 4000 characters, found 4001"):
        About(note="n" * 4001).check()


def test_the_tags_of_a_sweeps_runs() -> None:
    assert About("pilot", "a", "?").tags() == {SWEEP_NAME: "pilot", SWEEP_NOTE: "a"}
    assert About().tags() == {}
    assert NOTE == "mlflow.note.content", "MLflow shows it as the description"
