"""The code that decides what a pool contains, as one digest: part of a pool's identity.

It covers a protocol's function and everything of ours and of the user's that it reaches: functions, classes, patterns
and constants, in its own file and in others. Comments, docstrings and layout do not count; any other change of the code
does, so that no two pools pass as equal that were written or parsed differently. Libraries do not count.
"""

import ast
import builtins
import hashlib
import inspect
import re
import sys
import sysconfig
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from engine import UserError
from engine.selfplay.protocols import Protocol, distinct

OURS = ("engine.selfplay.", "engine.inference.chat")
LIBRARIES = tuple(Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib"))


def code_digest(protocol: Protocol) -> str:
    """SHA-256 over the code that writes, keeps and compares the elements of a protocol, in hex.

    Raises UserError if the source of a user's protocol cannot be read, or refers to a value that has no fixed text.
    """
    parts: dict[str, str] = {}
    for root in [distinct, *([protocol.write] if protocol.write else [])]:
        _collect(root, parts)
    return hashlib.sha256("\n".join(f"{name}: {parts[name]}" for name in sorted(parts)).encode()).hexdigest()


def _collect(thing: Any, parts: dict[str, str]) -> None:
    """Adds the text of a function or class, and of what it refers to."""
    name = f"{thing.__module__}.{thing.__qualname__}"
    if name not in parts:
        parts[name] = _text_of(thing)
        _collect_names(sys.modules[thing.__module__], _names_in(thing), parts)


def _collect_names(module: ModuleType, names: set[str], parts: dict[str, str]) -> None:
    """Adds what names refer to in a module, and in modules of ours or the user's that they name."""
    for name in sorted(names & vars(module).keys()):
        value = vars(module)[name]
        if isinstance(value, ModuleType):
            if value is not module and _counts(value.__name__):
                _collect_names(value, names, parts)
        else:
            _collect_value(f"{module.__name__}.{name}", value, parts)


def _collect_value(name: str, value: Any, parts: dict[str, str]) -> None:
    """Adds a function, class or constant, unless it belongs to a library."""
    if inspect.isfunction(value) or inspect.isclass(value):
        if _counts(value.__module__):
            _collect(value, parts)
    elif isinstance(value, re.Pattern):
        parts[name] = f"{value.pattern!r} {value.flags}"
    elif getattr(builtins, name.rpartition(".")[2], None) is not value and not callable(value):
        parts[name] = _plain(name, value)


def _counts(module: str) -> bool:
    """Is it a module of ours that decides, or one of the user's?"""
    if module.partition(".")[0] == "engine":
        return module.startswith(OURS)
    file = getattr(sys.modules.get(module), "__file__", None)
    return file is not None and not any(Path(file).is_relative_to(folder) for folder in LIBRARIES)


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
    raise UserError(
        f"{name} is used by a protocol and is a {type(value).__name__}, which has no fixed text; "
        "make it inside the protocol's function, or of texts, numbers, lists and dictionaries"
    )


def _text_of(thing: Any) -> str:
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


def _names_in(thing: Any) -> set[str]:
    """Global names that a function, or a class's methods, may refer to."""
    if inspect.isclass(thing):
        methods = [m for m in vars(thing).values() if isinstance(m, FunctionType)]
        return {name for method in methods for name in _names_in(method)}
    return {name for code in _codes(inspect.unwrap(thing).__code__) for name in code.co_names}


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A code object and those of the functions within it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)
