"""Which runs have the same data set, by what their create records say of it."""

from typing import Any

from harness.runfolder.data_sets import named


def about(name: str = "arrays", source: str = "a.npz", sha256: str = "1", test: int = 9) -> Any:
    return {"name": name, "source": source, "sha256": sha256, "test": test}


def test_a_name_says_enough_where_nothing_else_differs() -> None:
    assert named([]) == []
    assert named([about(), about("mnist"), about()]) == ["arrays", "mnist", "arrays"]


def test_files_with_different_content_are_two() -> None:
    found = named([about(), about(source="b.npz", sha256="2"), about("mnist", "mnist", "3")])
    assert found == ["arrays (a.npz)", "arrays (b.npz)", "mnist"]


def test_a_copy_and_an_edited_file_are_the_same() -> None:
    assert named([about(), about(source="/copy/a.npz")]) == ["arrays"] * 2
    assert named([about(), about(sha256="2")]) == ["arrays"] * 2


def test_another_number_of_test_examples_is_another_test_set() -> None:
    assert named([about(), about(sha256="2", test=1200)]) == [
        "arrays (9 test examples)", "arrays (1,200 test examples)",
    ]  # fmt: skip
    found = named([about(), about(source="b.npz", sha256="2", test=8)])
    assert found == ["arrays (a.npz, 9 test examples)", "arrays (b.npz, 8 test examples)"]


def test_what_is_not_known_may_be_the_same() -> None:
    assert named([about(), {"name": "arrays"}, {}]) == ["arrays", "arrays", ""]
    found = named([about(), about(source="b.npz", sha256="2"), {"name": "arrays"}])
    assert found[2] == "arrays (a.npz)"
