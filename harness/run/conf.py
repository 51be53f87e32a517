"""The folder `conf`: where it is, and the groups and options in it."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def conf_path() -> Path:
    """The folder of configurations: inside the package when installed, beside it in a checkout."""
    inside = PACKAGE / "conf"
    return inside if inside.is_dir() else PACKAGE.parent / "conf"


def conf_roots() -> list[Path]:
    """Every folder that configurations are read from, the first one's files first."""
    return [conf_path()]


def groups() -> dict[str, list[str]]:
    """The config groups and their options; without hydra, which has its own keys."""
    folders = (path for path in sorted(conf_path().iterdir()) if path.is_dir())
    return {
        folder.name: sorted(path.stem for path in folder.glob("*.yaml"))
        for folder in folders
        if folder.name != "hydra"
    }
