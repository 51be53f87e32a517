"""The environment of a result: versions, and the commit of the source."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from harness.runfolder import environment
from harness.runfolder.environment import Commit, NoCommit


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


def test_outside_git_there_is_no_commit(source: Path) -> None:
    with pytest.raises(NoCommit, match="not in a git checkout"):
        environment.commit()
    assert environment.uncommitted() == ""
    assert "commit: not in a git checkout\n" in environment.describe(1)


def test_a_git_that_fails_is_no_commit_with_its_reason(source: Path) -> None:
    (source.parent / ".git").mkdir()  # not a repository
    with pytest.raises(NoCommit, match="unknown: git says: fatal: not a git repository"):
        environment.commit()
    assert environment.uncommitted() == ""
    assert "commit: unknown: git says: fatal: not a git rep" in environment.describe(1)


def test_a_checkout_of_another_owner_is_told_as_such(source: Path) -> None:
    git(source.parent, "init", "-q")
    git(source.parent, "commit", "-qm", "first", "--allow-empty")
    for path in [source.parent, *source.parent.rglob("*")]:
        os.chown(path, 4321, 4321)
    assert "commit: unknown: git says: fatal: detected dubious owner" in environment.describe(1)


def test_git_does_not_look_at_another_repository(
    source: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(source.parent, "init", "-q")
    git(source.parent, "add", ".")
    git(source.parent, "commit", "-qm", "first")
    sha = git(source.parent, "rev-parse", "HEAD").strip()
    other = tmp_path_factory.mktemp("other")
    git(other, "init", "-q")
    git(other, "commit", "-qm", "another", "--allow-empty")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / "index"))
    assert environment.commit() == Commit(sha, dirty=False)


def test_a_patch_of_text_in_another_encoding_under_a_configured_git(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(source.parent, "init", "-q")
    (source / "module.py").write_bytes(b"# Gr\xf6\xdfe\n")
    git(source.parent, "add", ".")
    git(source.parent, "commit", "-qm", "first")
    (source / "module.py").write_bytes(b"# Gr\xf6\xdfer\n")
    plain = environment.uncommitted().encode(errors="surrogateescape")
    assert b"+# Gr\xf6\xdfer\n" in plain
    git(source.parent, "config", "diff.noprefix", "true")
    monkeypatch.setenv("GIT_DIFF_OPTS", "--unified=0")
    monkeypatch.setenv("GIT_LITERAL_PATHSPECS", "1")
    assert environment.uncommitted().encode(errors="surrogateescape") == plain


def test_a_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    assert environment.user() == "54321"


def test_a_fact_that_cannot_be_found_is_unknown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> str:
        raise OSError("no such thing")

    monkeypatch.setattr(environment.socket, "gethostname", fail)
    monkeypatch.setattr(environment.metadata, "version", fail)
    lines = environment.describe(3).splitlines()
    assert "host: unknown" in lines
    assert "numpy: unknown" in lines
    assert "warning: environment.txt: host: OSError: no such thing\n" in capsys.readouterr().err


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
    lines = [line.split(": ")[0] for line in environment.describe(1).splitlines()]
    assert lines[-2:] == ["python", "numpy"]


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
        assert f"# 'harness/{name}': left out, because its name looks like a secret\n" in patch
    git(source.parent, "reset", "-q", "--hard")
    (source.parent / "patch").write_text(patch)
    git(source.parent, "apply", "patch")
    assert (source / "module.py").read_text() == "after\n"


def test_the_distributions_of_own_imports_are_listed() -> None:
    lines = environment.describe(1, ["yaml", "numpy", "click", "nowhere_to_be_found"]).splitlines()
    names = [line.split(": ")[0] for line in lines]
    assert names[-2:] == ["PyYAML", "click"]
    assert names.count("numpy") == 1
    assert f"click: {metadata.version('click')}" in lines
