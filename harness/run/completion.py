"""The shell completion of the console script."""

import sys

from harness.run.composer import ROOT_CONFIG
from harness.run.conf import conf_path
from harness.runfolder.config import ConfigError

SHELLS = ("bash", "zsh", "fish")


def shell_completion(arguments: list[str]) -> None:
    """Hydra's completion for the console script: `-sc install=bash|zsh|fish`, and its queries.

    Raises `ConfigError`.
    """
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    action, _, shell = arguments[0].partition("=") if len(arguments) == 1 else ("", "", "")
    if action not in ("install", "uninstall", "query") or shell not in SHELLS:
        raise ConfigError(f"-sc {' '.join(arguments)}: expected install={'|'.join(SHELLS)}")
    sys.argv = ["harness-run"]  # the program whose arguments are completed
    # Not through `hydra.main`: Python 3.14 refuses its argument parser.
    with initialize_config_dir(str(conf_path().resolve()), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        hydra.shell_completion(ROOT_CONFIG, arguments)
