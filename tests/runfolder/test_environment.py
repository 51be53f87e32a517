"""The environment of a result: cores, versions, and the commit of the source."""

import os
import platform
import subprocess
from pathlib import Path

import pytest

from harness.runfolder import environment
from harness.runfolder.environment import Commit


def git(folder: Path, *arguments: str) -> str:
    own = ("-c", "user.name=n", "-c", "user.email=e")
    return subprocess.run(
        ["git", "-C", str(folder), *own, *arguments], check=True, capture_output=True, text=True
    ).stdout


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that counts as the source, outside git."""
    folder = tmp_path / "harness"
    folder.mkdir()
    (folder / "module.py").write_text("before\n")
    monkeypatch.setattr(environment, "SOURCE", folder)
    return folder


@pytest.mark.parametrize(("allotted", "cores"), [("3", 3), ("1", 1), ("0", 1)])
def test_a_launcher_allots_cores(
    monkeypatch: pytest.MonkeyPatch, allotted: str, cores: int
) -> None:
    monkeypatch.setenv("HARNESS_CORES", allotted)
    assert environment.cores() == cores


@pytest.mark.parametrize("allotted", [None, ""])
def test_without_a_launcher_the_cores_are_those_of_the_affinity(
    monkeypatch: pytest.MonkeyPatch, allotted: str | None
) -> None:
    monkeypatch.delenv("HARNESS_CORES", raising=False)
    if allotted is not None:
        monkeypatch.setenv("HARNESS_CORES", allotted)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    assert environment.cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert environment.cores() == 7


def test_outside_git_there_is_no_commit(source: Path) -> None:
    assert environment.commit() is None
    assert environment.uncommitted() == ""
    assert "commit: not in a git checkout\n" in environment.describe(1)


def test_a_git_that_fails_is_no_commit(source: Path) -> None:
    (source.parent / ".git").mkdir()  # not a repository
    assert environment.commit() is None
    assert environment.uncommitted() == ""


def test_the_commit_and_whether_it_was_changed(source: Path) -> None:
    git(source.parent, "init", "-q")
    git(source.parent, "add", ".")
    git(source.parent, "commit", "-qm", "first")
    sha = git(source.parent, "rev-parse", "HEAD").strip()
    assert environment.commit() == Commit(sha, dirty=False)
    assert environment.uncommitted() == ""
    (source / "new.py").write_text("")  # untracked files do not count
    assert environment.commit() == Commit(sha, dirty=False)
    (source / "module.py").write_text("after\n")
    assert environment.commit() == Commit(sha, dirty=True)
    assert f"commit: {sha} with uncommitted changes\n" in environment.describe(1)


def test_the_patch_restores_the_source(source: Path) -> None:
    git(source.parent, "init", "-q")
    git(source.parent, "add", ".")
    git(source.parent, "commit", "-qm", "first")
    changed = "after, with trailing blank lines\n\n\n"
    (source / "module.py").write_text(changed)
    patch = source.parent / "uncommitted.diff"
    patch.write_text(environment.uncommitted())
    git(source.parent, "checkout", "-q", "--", ".")
    assert (source / "module.py").read_text() == "before\n"
    git(source.parent, "apply", str(patch))
    assert (source / "module.py").read_text() == changed


def test_the_description_names_what_a_result_depends_on() -> None:
    lines = dict(line.split(": ", 1) for line in environment.describe(4).splitlines())
    assert lines["blas threads"] == "4"
    assert lines["python"] == platform.python_version()
    assert {"host", "platform", "processor", "cores", "commit", "numpy"} <= set(lines)
    assert lines["processor"] == environment.processor() != ""


def test_versions_of_missing_packages_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "PACKAGES", ("numpy", "no-such-package-here"))
    assert list(environment.versions()) == ["python", "numpy"]


def test_files_that_look_like_secrets_are_left_out(source: Path) -> None:
    """Also staged ones, and files in a folder of secrets; the patch says so and still applies."""
    git(source.parent, "init", "-q")
    git(source.parent, "add", ".")
    git(source.parent, "commit", "-qm", "first")
    (source / "module.py").write_text("after\n")
    names = (".env", ".env.local", "server.PEM", "id_rsa", "my_credentials.json", ".ssh/config")
    for name in names:
        path = source / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("hunter2\n")
    git(source.parent, "add", ".")
    patch = environment.uncommitted()
    assert "hunter2" not in patch
    for name in names:
        assert f"# harness/{name}: left out, because its name looks like a secret\n" in patch
    git(source.parent, "reset", "-q", "--hard")
    (source.parent / "patch").write_text(patch)
    git(source.parent, "apply", "patch")
    assert (source / "module.py").read_text() == "after\n"


@pytest.mark.parametrize("name", ["harness/keys.py", "tokens.py", "docs/environment.md", "a.py"])
def test_other_files_are_no_secrets(name: str) -> None:
    assert not environment.looks_secret(name)
