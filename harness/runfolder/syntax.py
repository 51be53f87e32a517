"""A digest of Python source that does not depend on comments, docstrings or layout."""

import ast
import hashlib

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def digest(source: bytes) -> str:
    """The SHA-256 of the text from `spell`. Raises `SyntaxError`."""
    return hashlib.sha256(spell(source).encode()).hexdigest()


def spell(source: bytes) -> str:
    """The syntax tree of Python source as text, without docstrings. Raises `SyntaxError`."""
    return _spell(ast.parse(source))


def _spell(node: object) -> str:
    """A syntax tree as text, without docstrings; the same in every version of Python.

    `ast.dump` depends on the version: newer versions add fields that are empty here or leave out
    empty ones, and 3.12.0 adds an empty text to some f-strings.
    """
    if isinstance(node, list):
        return f"[{','.join(map(_spell, node))}]"
    if not isinstance(node, ast.AST):
        return ascii(node)
    fields = {name: value for name, value in ast.iter_fields(node) if value not in (None, [])}
    if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
        fields["body"] = node.body[1:]
    if isinstance(node, ast.JoinedStr):
        fields["values"] = [each for each in node.values if getattr(each, "value", None) != ""]
    spelled = (f"{name}={_spell(value)}" for name, value in fields.items())
    return f"{type(node).__name__}({','.join(spelled)})"
