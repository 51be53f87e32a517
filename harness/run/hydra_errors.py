"""Turn the exceptions of Hydra, OmegaConf and YAML into one line that says what to type instead."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import yaml

from harness.data.override import quoted, suggest
from harness.run.conf import conf_roots, groups, not_given
from harness.runfolder import own_code
from harness.runfolder.config import ConfigError, yaml_fault
from harness.runfolder.kinds import DATASET, KINDS
from harness.runfolder.own_code import OwnCodeError
from harness.runfolder.parts import PartError

OWN = (*KINDS, DATASET.name)  # groups whose options may be the user's
NO_VALUE = re.compile(r"[=,]\s*,|,\s*$")  # a comma with nothing beside it


@contextmanager
def one_line_errors(text: str) -> Iterator[None]:
    """Turn exceptions into a `ConfigError` of one line. text: the override; empty for none."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        yield
    except (PartError, OwnCodeError) as error:
        raise ConfigError(str(error)) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:  # a file of the user's
        file = getattr(error, "problem_mark", error)
        raise ConfigError(
            f"{getattr(file, 'name', None) or _undecodable()}: {yaml_fault(error)}"
        ) from None
    except (HydraException, OmegaConfBaseException) as error:
        message = str(error)
        missing = re.search(r"Could not find '([^'/]+)/([^']*)'", message)
        if missing:
            group, option = missing.groups()
            options = groups().get(group, [])
            if own := own_code.candidates(option) if group in OWN else "":
                own = f", or your own {own}"
            hint = not_given(group, option) or suggest(option, options)
            line = f"{group}={option}: expected {', '.join(options)}{own}{hint}"
        elif text and "=" not in text:
            line = f"{text}: expected KEY=VALUE, such as batch=64; --help lists all keys"
        elif "input '" in message and NO_VALUE.search(text):
            line = f"{text}: expected a value on each side of a comma, such as 16,32"
        else:
            lines = message.splitlines()
            why = " ".join(lines[: 2 if lines and lines[0].endswith(":") else 1])
            if "not in 'Basic" in why:  # `BasicLauncherConf` or `BasicSweeperConf`
                why += "; give hydra/launcher, hydra/sweeper and their keys on the command line"
            line = f"{text or 'the configuration'}: {why}{_how_to_quote(text, message)}"
        raise ConfigError(line) from None


def _how_to_quote(text: str, message: str) -> str:
    """A hint how to quote a character that Hydra's grammar does not have."""
    stumbled = "token recognition|mismatched input|no viable|extraneous input"
    if not re.match(stumbled, message) or "input '<EOF>'" in message:
        return ""
    key, _, value = text.partition("=")
    if value[:1] in ("'", '"'):
        value = value.strip(value[0])
    return f"; quote the value twice, for the shell and for Hydra: {quoted(key, value)}"


def _undecodable() -> str:
    """The configuration file that is not in UTF-8; the exception does not say which."""
    for root in conf_roots():
        for path in sorted(root.rglob("*.yaml")):
            with suppress(OSError):
                try:
                    path.read_text(encoding="utf-8")
                except UnicodeDecodeError:
                    return str(path)
    return "a configuration file"
