"""The folders of configurations: `conf`, and the user's own; the groups and options in them."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.runfolder import own_code
from harness.runfolder.config import ConfigError

PACKAGE = Path(__file__).resolve().parents[1]


def conf_path() -> Path:
    """The folder of configurations: inside the package when installed, beside it in a checkout."""
    inside = PACKAGE / "conf"
    return inside if inside.is_dir() else PACKAGE.parent / "conf"


@contextlib.contextmanager
def including(folders: Sequence[str]) -> Iterator[None]:
    """Also use these folders of the user for configurations and modules.

    Raises `ConfigError` for one that cannot be read, and for a file that hides one of `conf`.
    """
    with own_code.searching([*map(_checked, folders)]):
        yield


def _checked(typed: str) -> Path:
    """The path of a user's folder. Raises `ConfigError`."""
    try:
        path = Path(typed).expanduser().resolve()
        groups = [each for each in path.iterdir() if each.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(f"--config-dir {typed}: there is no such folder") from None
    except (OSError, RuntimeError) as error:  # no permission, no such home, a link to itself
        raise ConfigError(
            f"--config-dir {typed}: {getattr(error, 'strerror', error)}; name another folder"
        ) from None
    for group in groups:
        for file in sorted(group.glob("*.yaml")):
            if (conf_path() / group.name / file.name).is_file():
                raise ConfigError(
                    f"{file}: {group.name}={file.stem} is built in; give the file another name"
                )
    return path


def conf_roots() -> list[Path]:
    """Every folder that configurations are read from."""
    return [conf_path(), *own_code.folders()]


def not_given(group: str, option: str) -> str:
    """A hint at the user's file with this option, in a folder that was not given; else ""."""
    for folder in (Path("conf"), Path()):
        file = folder / group / f"{option}.yaml"
        if option and file.is_file():
            return f"; to use {file}, add -cd {folder}"
    return ""


def groups() -> dict[str, list[str]]:
    """The config groups and their options, with the user's; without hydra, which is separate."""
    options: dict[str, set[str]] = {}
    for root in conf_roots():
        for folder in sorted(path for path in root.iterdir() if path.is_dir()):
            found = {path.stem for path in folder.glob("*.yaml")}
            if folder.name != "hydra" and (found or root == conf_path()):
                options.setdefault(folder.name, set()).update(found)
    return {name: sorted(found) for name, found in options.items()}
