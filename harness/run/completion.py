"""The shell completion of the console script."""

import os
import re
import sys
from contextlib import suppress
from pathlib import Path

from harness.run.composer import ROOT_CONFIG, addable
from harness.run.conf import conf_path, including
from harness.runfolder import own_code
from harness.runfolder.config import ConfigError
from harness.runfolder.own_code import OwnCodeError
from harness.runfolder.parts import PartError

SHELLS = ("bash", "zsh", "fish")
LINE = "COMP_LINE"  # the variable in which a shell gives the line that it completes
OPTIONS = re.compile(
    r"(?<=\s)(?:(?:--config-dir|-cd)[=\s]\s*(\S+)|--ids[=\s]\s*\S+|--dry-run)(?=\s)"
)


# An option whose value is being typed, as far as it is.
UNFINISHED = re.compile(
    r"(?<=\s)(?:(--config-dir=|(?:--config-dir|-cd)\s+)(\S*)|--ids[=\s]\s*\S*)$"
)


def shell_completion(arguments: list[str]) -> None:
    """Hydra's completion for the console script: `-sc install=bash|zsh|fish`, and its queries.

    Raises `ConfigError`.
    """
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException

    from harness.run import own_source

    action, _, shell = arguments[0].partition("=") if len(arguments) == 1 else ("", "", "")
    if action not in ("install", "uninstall", "query") or shell not in SHELLS:
        raise ConfigError(f"-sc {' '.join(arguments)}: expected install={'|'.join(SHELLS)}")
    sys.argv = ["harness-run"]  # the program whose arguments are completed
    folders: list[str] = []
    if action == "query" and LINE in os.environ:
        line = os.environ[LINE]
        if (unfinished := UNFINISHED.search(line)) or line.split(" ")[-1].startswith("-"):
            print(" ".join(_folders(unfinished)))
            return
        os.environ[LINE], folders = _completed(line)
    # Not through `hydra.main`: Python 3.14 refuses its argument parser.
    with initialize_config_dir(str(conf_path().resolve()), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        # An unfinished line may be wrong: then nothing is offered.
        with suppress(HydraException, ConfigError, OwnCodeError, PartError), including(folders):
            own_source.extend(hydra.config_loader, own_code.folders())
            hydra.shell_completion(ROOT_CONFIG, arguments)


def _folders(unfinished: "re.Match[str] | None") -> list[str]:
    """The folders that the value of --config-dir may become; none for other options."""
    if unfinished is None or unfinished.group(1) is None:
        return []
    option, typed = unfinished.groups()
    above, slash, begin = typed.rpartition("/")
    with suppress(OSError, RuntimeError):  # no such folder, or no such home
        names = sorted(
            path.name
            for path in Path(f"{above}{slash}" or ".").expanduser().iterdir()
            if path.is_dir() and path.name.startswith(begin)
            and (begin or not path.name.startswith("."))
        )  # fmt: skip
        prefix = option if option.endswith("=") else ""
        return [f"{prefix}{above}{slash}{name}/" for name in names]
    return []


def _completed(line: str) -> tuple[str, list[str]]:
    """The command line that is completed without our own options, and its --config-dir folders.

    Keys of parts can be added, as when the line is run; the last word stays as it is.
    """
    folders = [each.group(1) for each in OPTIONS.finditer(line) if each.group(1)]
    words = OPTIONS.sub("", line).split(" ")
    return " ".join([*map(addable, words[:-1]), words[-1]]), folders
