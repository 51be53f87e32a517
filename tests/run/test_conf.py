"""The folder `conf`, in a checkout and in an installed package."""

from pathlib import Path

import pytest

from harness.run import conf
from tests.conftest import ROOT, RUN, Command


def test_in_a_checkout_it_is_beside_the_package() -> None:
    assert conf.conf_path() == ROOT / "conf"


def test_installed_it_is_inside_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("harness/conf/optimizer", "harness/conf/hydra/launcher", "conf"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("sgd.yaml", "adam.yaml", "notes.txt"):
        (tmp_path / "harness/conf/optimizer" / name).touch()
    monkeypatch.setattr(conf, "PACKAGE", tmp_path / "harness")
    assert conf.conf_path() == tmp_path / "harness/conf"
    assert conf.groups() == {"optimizer": ["adam", "sgd"]}, "hydra has keys of its own"


@pytest.mark.parametrize("folder", ["conf", "."])
@pytest.mark.parametrize(
    ("group", "words"),
    [
        ("sweep", "-m sweep=mine"), ("experiment", "experiment=mine"),
        ("optimizer", "-m optimizer=adam,mine"), ("dataset", "dataset=mine"),
    ],
)  # fmt: skip
def test_a_file_in_a_folder_that_was_not_given_is_named(
    command: Command, tmp_path: Path, folder: str, group: str, words: str
) -> None:
    file = tmp_path / folder / group / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.touch()
    done = command(RUN, *words.split())
    assert (done.returncode, done.stdout) == (2, "")
    hint = f"; to use {file.relative_to(tmp_path)}, add -cd {folder}\n"
    assert done.stderr.startswith(f"error: {group}=mine: expected ")
    assert done.stderr.endswith(hint)
    again = command(RUN, *words.split(), "--dry-run", "-cd", folder)
    assert hint not in again.stderr


def test_the_groups_of_the_checkout() -> None:
    groups = conf.groups()
    assert groups["normalization"] == ["minmax", "none", "standard", "unit"]
    assert groups["tracking"] == ["local", "none", "server"]
    assert "hydra" not in groups


@pytest.mark.parametrize(
    ("folder", "why"),
    [
        ("nowhere", "there is no such folder"),
        ("file", "there is no such folder"),
        ("a" * 300, "File name too long; name another folder"),
        ("loop", "; name another folder"),
        ("~no-such-user/x", "; name another folder"),
    ],
)
def test_a_folder_that_cannot_be_read_is_one_line(
    command: Command, tmp_path: Path, folder: str, why: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    for words in ((RUN, "--dry-run"), ("harness", "evaluate", "last")):
        done = command(*words, "-cd", folder)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"error: --config-dir {folder}: ")
        assert done.stderr.endswith(f"{why}\n")
        assert done.stderr.count("\n") == 1
