"""Recorded files: their sizes and digests, and paths that leave the run folder."""

from pathlib import Path

import pytest

from harness.runfolder.artifacts import Artifact

SHA256_OF_ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "run" / "weights").mkdir(parents=True)
    (tmp_path / "run" / "weights" / "best").write_bytes(b"abc")
    (tmp_path / "secret").write_bytes(b"secret")
    return tmp_path / "run"


def test_a_file_is_recorded_with_its_size_and_digest(folder: Path) -> None:
    artifact = Artifact.measure(folder, "weights/best")
    assert artifact == Artifact("weights/best", 3, SHA256_OF_ABC)
    assert Artifact.of(artifact.record()) == artifact
    assert artifact.damage(folder) is None


@pytest.mark.parametrize(
    ("content", "damage"),
    [
        (None, "is missing"),
        (b"", "has 0 bytes instead of 3"),
        (b"abd", "does not match its SHA-256"),
    ],
)
def test_damage_is_named(folder: Path, content: bytes | None, damage: str) -> None:
    artifact = Artifact.measure(folder, "weights/best")
    file = folder / "weights" / "best"
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    assert artifact.damage(folder) == damage


def test_a_record_of_an_older_version_has_only_its_path(folder: Path) -> None:
    assert Artifact.of({"path": "weights/best"}).damage(folder) is None
    assert Artifact.of({"path": "weights/none"}).damage(folder) == "is missing"


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "", "weights/../../secret", "link"])
def test_a_path_that_leaves_the_folder_is_refused(folder: Path, path: str) -> None:
    (folder / "link").symlink_to(folder.parent / "secret")
    with pytest.raises(ValueError, match="expected a plain file inside the run folder"):
        Artifact(path).file(folder)
    assert Artifact(path).damage(folder) == "is not a plain file inside the run folder"


def test_a_linked_folder_is_refused(folder: Path) -> None:
    (folder / "plots").symlink_to(folder.parent)
    with pytest.raises(ValueError, match="plots is a symbolic link"):
        Artifact("plots/secret").file(folder)
