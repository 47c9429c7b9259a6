"""The code that decides what a pool contains, as one digest: part of a pool's identity.

It covers a protocol's function and everything that it reaches in its own file and in this room: functions, classes,
patterns and constants. Comments, docstrings and layout do not count; any other change of the code does, in a user's own
protocol as in ours, so that no two pools are taken for equal that were parsed differently.
"""

import ast
import builtins
import hashlib
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

from engine import UserError
from engine.selfplay.protocols import Protocol, distinct

ROOM = "engine.selfplay."


def code_digest(protocol: Protocol) -> str:
    """SHA-256 over the code that writes, keeps and compares the elements of a protocol, in hex.

    Raises UserError if the source of a user's protocol cannot be read, or refers to a value that has no fixed text.
    """
    roots: list[Any] = [distinct, *([protocol.write] if protocol.write else [])]
    own = {root.__module__ for root in roots}
    parts: dict[str, str] = {}
    for root in roots:
        _collect(root, own, parts)
    return hashlib.sha256("\n".join(f"{name}: {parts[name]}" for name in sorted(parts)).encode()).hexdigest()


def _collect(thing: Callable[..., Any], own: set[str], parts: dict[str, str]) -> None:
    """Adds the text of a function or class, and of what it refers to."""
    name = f"{thing.__module__}.{thing.__qualname__}"
    if name in parts:
        return
    parts[name] = _text_of(thing)
    module = sys.modules[thing.__module__]
    for used in sorted(_names_in(thing)):
        if hasattr(module, used):
            _collect_value(f"{module.__name__}.{used}", getattr(module, used), own, parts)


def _collect_value(name: str, value: Any, own: set[str], parts: dict[str, str]) -> None:
    """Adds what a global name refers to, unless it belongs to a library."""
    if inspect.isfunction(value) or inspect.isclass(value):
        if value.__module__ in own or value.__module__.startswith(ROOM):
            _collect(value, own, parts)
    elif isinstance(value, re.Pattern):
        parts[name] = f"{value.pattern!r} {value.flags}"
    elif not isinstance(value, ModuleType) and getattr(builtins, name.rpartition(".")[2], None) is not value:
        parts[name] = _plain(name, value)


def _plain(name: str, value: Any) -> str:
    """A constant as text. Raises UserError for anything whose text is not fixed, such as an address in memory."""
    if isinstance(value, str | int | float | bool | None):
        return repr(value)
    if isinstance(value, tuple | list):
        return f"[{', '.join(_plain(name, v) for v in value)}]"
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(_plain(name, v) for v in value))}}}"
    if isinstance(value, dict):
        return f"{{{', '.join(sorted(f'{_plain(name, k)}: {_plain(name, v)}' for k, v in value.items()))}}}"
    if getattr(type(value), "__module__", "") in ("typing", "types", "collections.abc"):
        return str(value)  # an alias of types
    raise UserError(
        f"{name} is used by a protocol and is a {type(value).__name__}, which has no fixed text; "
        "make it inside the protocol's function, or of texts, numbers, lists and dictionaries"
    )


def _text_of(thing: Callable[..., Any]) -> str:
    """The syntax tree of a function or class without docstrings, as text."""
    try:
        source = textwrap.dedent(inspect.getsource(thing))
    except OSError as error:
        raise UserError(f"the source of {thing.__module__}.{thing.__qualname__} cannot be read: {error}") from error
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and ast.get_docstring(node):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree)


def _names_in(thing: Callable[..., Any]) -> set[str]:
    """Global names that a function, or a class's methods, may refer to."""
    if inspect.isclass(thing):
        methods = [m for m in vars(thing).values() if isinstance(m, FunctionType)]
        return {name for method in methods for name in _names_in(method)}
    defaults = {type(d).__name__ for d in (thing.__defaults__ or ())} if isinstance(thing, FunctionType) else set()
    return {name for code in _codes(inspect.unwrap(thing).__code__) for name in code.co_names} | defaults


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A code object and those of the functions within it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)
