"""Find and check the parts that a configuration names: built-in ones and the user's own.

`optimizer=adam` is a row of `OPTIMIZERS`; `optimizer=mine.parts:Lion` is imported. Both are called
with the positional arguments of the kind (see the Protocol in its module) and with keywords. All
other arguments, with their annotations and defaults, are the keys of the part, such as
`optimizer.beta1`. An argument named like one of the kind's shared keys gets the value of that root
key (`weight_decay`).
"""

import dataclasses
import inspect
import sys
import typing
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from pydantic import ValidationError

from harness.data.override import spell, suggest
from harness.runfolder import own_code
from harness.runfolder.kinds import KINDS, Factory, Key, kind_of
from harness.runfolder.values import allowed, explain, meaning


class PartError(ValueError):
    """A part's name or one of its keys is wrong; the message is one line."""


@dataclass(frozen=True)
class Part:
    """A part in a configuration.

    name: a row of the kind's table, or MODULE:NAME. options: values of its own and the common keys.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_own(self) -> bool:
        """Whether it is the user's own."""
        return ":" in self.name


def factory(kind: str, name: str) -> Factory:
    """The callable that makes a part. Raises `PartError`, or `OwnCodeError` for user code."""
    key = f"{kind}={name}"
    if ":" in name:
        loaded = own_code.load(name, kind)
        if not callable(loaded):
            raise PartError(f"{key}: expected a class or a function, found {loaded!r}")
        return loaded  # type: ignore[no-any-return]  # anything callable
    rows = kind_of(kind).rows
    if name not in rows:
        raise PartError(
            f"{key}: expected {', '.join(rows)}, or your own "
            f"{own_code.candidates(name) or 'MODULE:NAME'}{suggest(name, rows)}"
        )
    return rows[name]


def keys(kind: str, name: str) -> list[Key]:
    """The keys of a part, the common ones of its kind first. Raises like `factory`."""
    own = [key for key in _arguments(kind, name) if key.name not in kind_of(kind).shared]
    return [*kind_of(kind).common, *own]


def shared_keys(kind: str, name: str) -> list[Key]:
    """The root keys that a part takes, with the part's defaults. Raises like `factory`."""
    return [key for key in _arguments(kind, name) if key.name in kind_of(kind).shared]


def metrics(names: Iterable[str]) -> dict[str, Factory]:
    """The metrics of `metrics=` by name: rows of `METRICS` or the user's functions.

    Raises `PartError`, or `OwnCodeError`.
    """
    from harness.nn.metrics import METRICS

    found: dict[str, Factory] = {}
    for name in names:
        short = name.rpartition(":")[2]
        if ":" not in name and name not in METRICS:
            raise PartError(
                f"metrics=[{name}]: expected {', '.join(METRICS)}, or your own "
                f"{own_code.candidates(name) or 'MODULE:FUNCTION'}{suggest(name, METRICS)}"
            )
        function = own_code.load(name, "metrics") if ":" in name else METRICS[name]
        if not callable(function):
            raise PartError(f"metrics=[{name}]: expected a function, found {function!r}")
        if ":" in name:
            signature = None
            with suppress(TypeError, ValueError):  # it has no signature
                signature = inspect.signature(function)
            if signature is not None:
                _check_positional(f"metrics=[{name}]", signature, ("probabilities", "labels"))
        if short in found or short in ("loss", "error", "lr"):
            raise PartError(f"metrics=[{name}]: there is a metric {short} already")
        found[short] = function
    return found


def check(kind: str, content: Any) -> Part:
    """The part of a configuration node, with all options, validated.

    content: a name, or a mapping of `name` and options. Raises `PartError` for the first problem.
    """
    if isinstance(content, Mapping):
        given = dict(content)
        name = given.pop("name", None)
    else:
        given, name = {}, content
    if name is None and given:
        raise PartError(
            f"{', '.join(f'{kind}.{key}={spell(value)}' for key, value in given.items())}: which "
            f"{kind}? Name it on the command line, {kind}=NAME, or in the file's list of defaults, "
            f"'override /{kind}: NAME'"
        )
    if not isinstance(name, str) or not name:
        raise PartError(
            f"{kind}={spell(name)}: expected a name, such as {next(iter(KINDS[kind].rows))}"
        )
    known = {key.name: key for key in keys(kind, name)}
    for option in given:
        if option not in known:
            options = [f"{kind}.{each}" for each in known]
            hint = suggest(f"{kind}.{option}", options, then="--help lists all keys")
            raise PartError(f"{kind}.{option}: {kind}={name} has no such key{hint}")
    values = {key.name: given.get(key.name, key.default) for key in known.values()}
    return Part(name, {key: _valid(kind, known[key], value) for key, value in values.items()})


def _valid(kind: str, key: Key, value: Any) -> Any:
    """The value of a key, converted by its annotation. Raises `PartError`."""
    try:
        valid = key.adapter.validate_python(value)
    except ValidationError as error:
        expected, problem = allowed(key.annotation), error.errors()[0]
        raise PartError(explain(f"{kind}.{key.name}", value, problem, expected)) from None
    return list(valid) if isinstance(valid, tuple) else valid  # as in a YAML file


@cache
def _arguments(kind: str, name: str) -> tuple[Key, ...]:
    """The arguments of a part after the positional ones of its kind. Raises like `factory`."""
    made_by = factory(kind, name)
    if kind == "trainer":
        return _settings(name, made_by)
    try:
        signature = inspect.signature(made_by)
        hints = typing.get_type_hints(
            made_by.__init__ if inspect.isclass(made_by) else made_by, include_extras=True
        )
    except (TypeError, ValueError, NameError) as error:
        raise PartError(f"{kind}={name}: its arguments cannot be read: {error}") from None
    if ":" in name:
        _check_positional(f"{kind}={name}", signature, kind_of(kind).arguments)
    found = []
    arguments = signature.parameters.values()
    positional = [each for each in arguments if each.kind is not each.KEYWORD_ONLY]
    given = positional[: len(kind_of(kind).arguments)]
    for argument in arguments:
        if argument in given or argument.kind in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD):
            continue
        if argument.kind is argument.POSITIONAL_ONLY:
            raise PartError(
                f"{kind}={name}: the argument {argument.name!r} before / cannot be a key; put * "
                "before it instead"
            )
        if argument.name not in hints or argument.default is argument.empty:
            raise PartError(
                f"{kind}={name}: the argument {argument.name!r} needs an annotation and a default, "
                f"such as {argument.name}: float = 0.9"
            )
        found.append(_key(kind, name, argument.name, hints[argument.name], argument.default))
    return tuple(found)


def _check_positional(place: str, signature: inspect.Signature, expected: Sequence[str]) -> None:
    """Raise `PartError` if a part cannot be called with these positional arguments."""
    given = [
        each
        for each in signature.parameters.values()
        if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
    ]
    is_open = any(each.kind is each.VAR_POSITIONAL for each in signature.parameters.values())
    more = [each.name for each in given[len(expected) :] if each.default is each.empty]
    if not more and (is_open or len(given) >= len(expected)):
        return
    found = f"({', '.join(each.name for each in given)})"
    hint = f"; put * before {more[0]!r} to make it a key" if more else ""
    raise PartError(
        f"{place}: expected the positional arguments ({', '.join(expected)}), found {found}{hint}"
    )


def _settings(name: str, function: Factory | None) -> tuple[Key, ...]:
    """The fields of the dataclass that annotates a training function's first argument."""
    if function is None:
        return ()
    schema = settings_class(name, function)
    try:
        hints = typing.get_type_hints(schema, include_extras=True)
    except (TypeError, NameError) as error:
        raise PartError(f"trainer={name}: its keys cannot be read: {error}") from None
    found = []
    for each in dataclasses.fields(schema):
        default = each.default
        if each.default_factory is not dataclasses.MISSING:
            default = each.default_factory()
        if default is dataclasses.MISSING:
            raise PartError(
                f"trainer={name}: {schema.__name__}.{each.name} needs a default, such as "
                f"{each.name}: float = 0.1"
            )
        found.append(_key("trainer", name, each.name, hints[each.name], default))
    return tuple(found)


def settings_class(name: str, function: Factory) -> Any:
    """The dataclass of a training function's settings. Raises `PartError`."""
    is_async = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
    if is_async or inspect.isgeneratorfunction(function):
        what = "an async function" if is_async else "a generator, because of its yield"
        raise PartError(
            f"trainer={name}: expected a function that trains when it is called, found {what}"
        )
    try:
        arguments = list(inspect.signature(function).parameters)
        schema = typing.get_type_hints(function)[arguments[0]]
    except (TypeError, ValueError, NameError, LookupError):
        schema = None
    if not dataclasses.is_dataclass(schema) or len(arguments) != 2:
        raise PartError(
            f"trainer={name}: expected a function fit(settings: Settings, run) where Settings is a "
            "dataclass, whose fields are its keys"
        )
    return schema


def _key(kind: str, part: str, argument: str, annotation: Any, default: Any) -> Key:
    """Make the key of an argument. Raises `PartError` if no configuration can hold its values."""
    if argument == "name":
        raise PartError(f"{kind}={part}: 'name' cannot be a key, it names the part; rename it")
    if argument not in kind_of(kind).shared and not allowed(annotation):
        found = inspect.formatannotation(annotation)
        raise PartError(
            f"{kind}={part}: the type of {argument!r} is {found}; expected bool, int, float, str, "
            "a Literal, a list of one of them, or one of them | None"
        )
    key = Key(argument, annotation, default, meaning(annotation))
    if ":" in part and argument not in kind_of(kind).shared:
        try:
            _valid(kind, key, default)
        except PartError as error:
            file = sys.modules[part.partition(":")[0]].__file__
            raise PartError(
                f"{error}; this is its default in {file}, which must be a valid value"
            ) from None
    return key
