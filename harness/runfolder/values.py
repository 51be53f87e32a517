"""Describe the values that a key's annotation allows, and what is wrong with another value."""

import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from harness.data.override import quoted, spell, suggest


def meaning(annotation: Any) -> str:
    """The text in `Annotated[float, "decay of the running mean"]`; empty if there is none."""
    texts = (each for each in getattr(annotation, "__metadata__", ()) if isinstance(each, str))
    return next(texts, "")


def allowed(annotation: Any) -> str:
    """The values that an annotation allows, in words; empty if it has no description.

    The description of a `pydantic.Field` in the annotation replaces the words made from limits.
    """
    limits: dict[type, Any] = {}
    if get_origin(annotation) is Annotated:
        for each in annotation.__metadata__:
            if isinstance(each, FieldInfo) and each.description:
                return each.description
            limits |= {type(limit): limit for limit in getattr(each, "metadata", (each,))}
        annotation = get_args(annotation)[0]
    if annotation is bool:
        return "true or false"
    if annotation is str:
        return "a text"
    if annotation in (int, float):
        return _number(annotation, limits)
    if get_origin(annotation) is Literal:
        return ", ".join(map(str, get_args(annotation)))
    if get_origin(annotation) in (list, Sequence):
        inner = allowed(*get_args(annotation))
        return f"a list, each {inner}" if inner else ""
    if get_origin(annotation) in (Union, types.UnionType):
        words = [allowed(each) for each in get_args(annotation) if each is not types.NoneType]
        null = ", or null" if types.NoneType in get_args(annotation) else ""
        return " or ".join(words) + null if all(words) else ""
    return ""


def _number(annotation: type, limits: Mapping[type, Any]) -> str:
    """A number and its limits in words, such as `a number from 0 to below 1`."""
    low = high = ""
    if Ge in limits or Gt in limits:
        low = f"from {limits[Ge].ge}" if Ge in limits else f"above {limits[Gt].gt}"
    if Le in limits or Lt in limits:
        high = f"to {limits[Le].le}" if Le in limits else f"below {limits[Lt].lt}"
    whole = "a whole number" if annotation is int else "a number"
    if low and high:
        link = "and " if Gt in limits and Lt in limits else "to " if Lt in limits else ""
        return f"{whole} {low} {link}{high}"
    if annotation is float:
        whole = "a finite number"
    low = low.replace("from", "of at least")
    high = high.replace("to", "of at most")
    return " ".join(filter(None, (whole, low, high)))


def explain(key: str, value: Any, error: Mapping[str, Any], expected: str) -> str:
    """Describe in a line one of pydantic's errors about the value of a key.

    expected: what `allowed` returns for the key; if empty, pydantic's words are used.
    """
    shown = "(nothing)" if value == "" else value if isinstance(value, str) else spell(value)
    # The options of a Literal: "'sgd', 'adam' or 'x'".
    options = error.get("ctx", {}).get("expected", "")
    words = options.replace("'", "").replace(" or ", ", ").split(", ")
    hint = suggest(str(value), words) if options else ""
    if error["type"] == "string_type" and isinstance(value, bool | int | float):
        hint = f"; for this very text, type {quoted(key, shown)}"
    if error["type"] == "list_type" and not isinstance(value, Mapping):
        hint = f"; type {key}=[{shown}]"
    expected = expected or options or error["msg"].replace("Input should be ", "")
    return f"{key}={shown}: expected {expected}{hint}"
