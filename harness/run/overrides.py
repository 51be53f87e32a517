"""The overrides of a command line, as Hydra's own parser reads them.

A command line mixes three kinds: settings of runs (`lr=0.1`), settings of the launcher and sweeper
(`hydra/launcher=joblib`), and keys of the command itself (`resume=last`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.data.override import quoted, suggest
from harness.run import grammar, hook, launcher_schema
from harness.run.conf import groups
from harness.run.hydra_errors import OWN, one_line_errors
from harness.run.limits import LIMITS, Limits
from harness.runfolder.about import About
from harness.runfolder.config import ConfigError
from harness.runfolder.cost import Cost
from harness.runfolder.kinds import KINDS
from harness.runfolder.meanings import meanings
from harness.runfolder.objective import KEY as OBJECTIVE
from harness.runfolder.objective import directed

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

COMMAND_KEYS = {
    "resume": "RUN_ID or last: continue an interrupted run with its own frozen settings",
    "sweep": "NAME: with -m, the jobs of the file sweep/NAME.yaml",
    "fresh": "true: a repeated sweep trains new runs instead of continuing the old ones",
    "accept": "source: a repeated sweep keeps finished runs even if the source code has changed",
    "name": "TEXT: what a run or a sweep is called, in tables, in MLflow and in selections",
    "note": "TEXT: a note on the run or sweep",
    "question": "TEXT: with -m, the question that the sweep answers; recorded before its first job",
    "until": "decided: with -m, add seeds only to the settings that can still be the best",
    "budget": "TIME, such as 90m or 2h: with until or a search, start no seed or trial after it",
    "max_jobs": "N: with until, at most N runs in the sweep",
    "max_epochs": "N: with until or a search, at most N epochs in all runs together",
    "on_end": "COMMAND or URL: gets a summary as JSON when the command ends",
}
TEXTS = ("name", "note", "question", "on_end")  # whose values are texts as they stand
ENGINES = ("launcher", "sweeper")
NO_EFFECT = "Hydra only composes the settings here; --help lists all keys"
SEARCH_PATH = "hydra.searchpath"  # the one setting of Hydra itself that composing obeys
OUTPUTS = "results go to outputs=FOLDER, one folder below it for each run"
ENVIRONMENT = "jobs have the environment of the shell where the command is typed: set it there"
INSTEAD = {
    "hydra.run": OUTPUTS,
    "hydra.sweep": OUTPUTS,
    "hydra.output_subdir": OUTPUTS,
    "hydra.job.chdir": "jobs work in the folder where the command is typed",
    "hydra.job.name": "tracking.experiment=NAME names what belongs together",
    "hydra.job.env_set": ENVIRONMENT,
    "hydra.job.env_copy": ENVIRONMENT,
    "hydra.mode": "-m makes a sweep",
    "hydra.sweeper.params": "sweep the keys themselves on the command line: -m lr=0.1,0.2",
}


@dataclass(frozen=True)
class CommandLine:
    """The overrides of a command by kind.

    settings: the settings of runs; their keys are known. engines: the overrides of "launcher" and
    of "sweeper". typed: all overrides as typed, without `resume` and `fresh`, which a repeated
    command does not need. resume, fresh, sweep: the values of the command's own keys. accept:
    whether `accept=source` is given. about: the user's notes. on_end: the command or URL to call at
    the end; empty for none. limits: when a sweep or a search ends early. costs: the further
    objectives of `objective=[METRIC,...]`, by which a sweep's settings are compared.
    """

    settings: "list[Override]"
    engines: "dict[str, list[Override]]"
    typed: list[str]
    resume: str | None = None
    fresh: bool = False
    sweep: str | None = None
    accept: bool = False
    about: About = About()
    on_end: str = ""
    limits: Limits = Limits()
    costs: tuple[str, ...] = ()


def parse(texts: list[str]) -> CommandLine:
    """Parse and sort overrides. Raises `ConfigError`, one line, for the first problem."""
    settings: list[Override] = []
    engines: dict[str, list[Override]] = {kind: [] for kind in ENGINES}
    command_keys: dict[str, str] = {}
    typed = []
    costs: tuple[str, ...] = ()
    said = _texts(texts)
    for override in parse_each([text for text in texts if text.partition("=")[0] not in TEXTS]):
        key = override.key_or_group
        engine = next((kind for kind in ENGINES if is_engine_key(key, kind)), None)
        if override.is_delete() and (engine is not None or key in COMMAND_KEYS):
            raise ConfigError(f"{text_of(override)}: cannot be deleted; leave it out instead")
        if key.startswith("hydra.sweeper.params"):
            raise ConfigError(f"{text_of(override)}: has no effect; {instead_of(key)}")
        if key in COMMAND_KEYS:
            if key == "sweep" and key in command_keys:
                raise ConfigError(f"{text_of(override)}: sweep= is given twice; give one file")
            command_keys[key] = value_text(override)
            if key in ("sweep", "accept", "until", *LIMITS):
                typed.append(text_of(override))
            continue
        typed.append(text_of(override))
        if engine is None:
            _check_key(override)
        if key == OBJECTIVE:
            is_one = not isinstance(override.value(), list)
            override, costs = (override, ()) if is_one else _several(override)
        (settings if engine is None else engines[engine]).append(override)
    _check_reuse(command_keys)
    return CommandLine(
        settings=settings,
        engines=engines,
        typed=typed,
        resume=command_keys.get("resume"),
        fresh=command_keys.get("fresh") == "true",
        sweep=command_keys.get("sweep"),
        accept="accept" in command_keys,
        about=About(said["name"], said["note"], said["question"]),
        on_end=said["on_end"],
        limits=Limits.parse(command_keys),
        costs=costs,
    )


def _check_reuse(typed: Mapping[str, str]) -> None:
    """Refuse values of `resume`, `fresh` and `accept`, and those that contradict each other."""
    if typed.get("resume") == "":
        raise ConfigError("resume=(nothing): expected a run id or last")
    fresh = typed.get("fresh", "false")
    if fresh not in ("true", "false"):
        raise ConfigError(f"fresh={fresh}: expected true or false")
    if fresh == "true" and "resume" in typed:
        raise ConfigError("fresh=true: resume continues a run, fresh starts anew; give one of them")
    accept = typed.get("accept")
    if accept not in (None, "source"):
        raise ConfigError(f"accept={accept or '(nothing)'}: expected source")
    if accept and (fresh == "true" or "resume" in typed):
        other = "fresh=true" if fresh == "true" else "resume"
        raise ConfigError(f"accept=source: {other} reuses no finished runs; give one of them")


def _several(override: "Override") -> "tuple[Override, tuple[str, ...]]":
    """The first of several objectives as an override, and the others. Raises `ConfigError`."""
    value: Any = override.value()
    names = [str(each) for each in value]
    if len(names) < 2 or override.is_add():
        raise ConfigError(
            f"{text_of(override)}: expected {OBJECTIVE}=METRIC, or the objective and what it costs "
            f"as well, such as {OBJECTIVE}=[val/error,parameters]"
        )
    try:
        costs = [str(Cost.typed(each)) for each in names[1:]]
    except ValueError as error:
        raise ConfigError(f"{text_of(override)}: {error}") from None
    metrics = [Cost.parse(each).key for each in names[1:]] + [directed(names[0])[0]]
    if len(set(metrics)) < len(names):
        raise ConfigError(f"{text_of(override)}: a metric is given twice; give it once")
    (first,) = parse_each([f"{OBJECTIVE}={names[0]}"])
    return first, tuple(costs)


def _texts(texts: list[str]) -> dict[str, str]:
    """The values of `TEXTS`, empty where they are not given. Raises `ConfigError`."""
    said: dict[str, str] = {}
    for text in texts:
        key, _, value = text.partition("=")
        if key not in TEXTS:
            continue
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]  # quoted for Hydra as well
        if not value:
            raise ConfigError(f"{text}: expected a text")
        if key in said:
            raise ConfigError(f"{text}: {key}= is given twice; give one")
        said[key] = value
    found = {key: said.get(key, "") for key in TEXTS}
    try:
        About(found["name"], found["note"], found["question"]).check()
        hook.check(found["on_end"])
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return found


def parse_each(texts: list[str]) -> "Iterator[Override]":
    """Hydra's overrides, one for each text. Raises `ConfigError`."""
    parser = grammar.parser()
    for text in texts:
        with one_line_errors(text):
            yield parser.parse_override(text)


def is_engine_key(key: str, kind: str) -> bool:
    """Whether a key chooses or sets the launcher or sweeper (`kind`)."""
    return key == f"hydra/{kind}" or key.startswith(f"hydra.{kind}.") or key == f"hydra.{kind}"


def text_of(override: "Override") -> str:
    """The override as typed."""
    assert override.input_line is not None, "the parser sets it"
    return override.input_line


def value_text(override: "Override") -> str:
    """The text after the equals sign, without quotes."""
    value = override.value()  # a string without its quotes; a number would lose its spelling
    return value if isinstance(value, str) else text_of(override).partition("=")[2]


def _check_key(override: "Override") -> None:
    """Refuse a key that the schema does not have, or that only Hydra itself would act on."""
    key = override.key_or_group
    if key == SEARCH_PATH:
        return
    if key in groups() and not override.is_delete():
        for value in _values(override):
            if value is None or isinstance(value, bool | int | float):
                typed = text_of(override).partition("=")[2]
                text = "null" if value is None else str(value).lower()
                which, text = (f"{text}: ", text) if override.is_sweep_override() else ("", typed)
                raise ConfigError(
                    f"{override.input_line}: {which}expected {', '.join(groups()[key])}; for a "
                    f"file of this very name, type {quoted(key, text)}"
                )
    if key.startswith(("hydra.", "hydra/")):
        hint = instead_of(key) or NO_EFFECT
        raise ConfigError(f"{override.input_line}: has no effect; {hint}")
    kind, dot, option = key.partition(".")
    if kind in KINDS and option == "name":
        value = override.input_line.partition("=")[2] if override.input_line else ""
        raise ConfigError(f"{override.input_line}: type {kind}={value}")
    if kind in OWN and dot:
        return  # the part that is chosen decides
    known = {*meanings(), *groups(), *COMMAND_KEYS}
    if key not in known:
        hint = suggest(key, [*known, *launcher_schema.every_key()], then="--help lists all keys")
        raise ConfigError(f"{override.input_line}: there is no such key{hint}")


def _values(override: "Override") -> list[Any]:
    """The values of an override as the parser reads them; of a range or an interval the first."""
    from hydra.core.override_parser.types import ChoiceSweep, Glob

    value: Any = override.value()
    if isinstance(value, ChoiceSweep):
        return list(value.list)
    is_sweep = override.is_sweep_override() and not isinstance(value, Glob)
    return [value.start if is_sweep else value]


def instead_of(key: str) -> str | None:
    """What to type instead of a setting of Hydra that has no effect here; None if nothing is."""
    hints = (hint for known, hint in INSTEAD.items() if f"{key}.".startswith(f"{known}."))
    return next(hints, None)
