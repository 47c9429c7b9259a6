"""What a protocol's script may do, whoever wrote it: it is driven here one step at a time, and checked at each.

What it does wrong is a `ScriptError` with the file and line, so that it fails its own order and no other.
"""

import traceback
from collections import Counter
from types import GeneratorType
from typing import Any

from engine import UserError
from engine.inference.chat import Element
from engine.selfplay.protocols import MAX_PROMPTS, Draft, Protocol, Script, describe, is_unicode, place_of

MAX_STAGES = 32  # of one draw; ours have two at most
RAISED = (Exception, SystemExit)  # by a script, which may not end the engine that it shares with others


class ScriptError(UserError):
    """A protocol's function that does not do what a protocol does. The message names its file and line."""


def open_script(protocol: Protocol, news: str, draw: int) -> Script:
    """Begins one draw. Raises ScriptError if the function is no Python generator."""
    assert protocol.write
    try:
        script = protocol.write(news, draw)
    except RAISED as error:
        raise describe_raised(protocol, error) from error
    if not isinstance(script, GeneratorType):
        raise script_error(protocol, f"gave {describe(script)} at once; first `yield` a list of prompts")
    return script


def advance(protocol: Protocol, script: Script, stage: int, answers: list[str] | None) -> list[str] | Draft:
    """Gives a script its answers (None at first): the prompts of its next stage, or its draft. Raises ScriptError."""
    try:
        prompts = next(script) if answers is None else script.send(answers)
    except StopIteration as end:
        return check_draft(protocol, end.value)
    except RAISED as error:
        raise describe_raised(protocol, error) from error
    line = current_line(script)
    if stage >= MAX_STAGES:
        raise script_error(protocol, f"yields more than {MAX_STAGES} times; end with `return` and a Draft", line)
    if fault := find_prompts_fault(prompts):
        raise script_error(protocol, f"yields {fault}; yield a list of prompts, each a text that is not empty", line)
    return prompts


def current_line(script: Script) -> int | None:
    """The line of its file at which a script waits."""
    frame = getattr(script, "gi_frame", None)
    return frame.f_lineno if frame else None


def find_prompts_fault(prompts: Any) -> str | None:
    """Describes what is wrong with the prompts of one stage, if anything is."""
    if not isinstance(prompts, list | tuple) or not prompts:
        return describe(prompts)
    if len(prompts) > MAX_PROMPTS:
        return f"{len(prompts)} prompts at once, more than {MAX_PROMPTS}"
    return next((f"the prompt {describe(p)}" for p in prompts if not is_unicode(p) or not p.strip()), None)


def check_draft(protocol: Protocol, draft: Any) -> Draft:
    """The draft that a script returned. Raises ScriptError."""
    if not isinstance(draft, Draft):
        raise script_error(protocol, f"returned {describe(draft)}; `return` a Draft")
    if not isinstance(draft.elements, list) or not isinstance(draft.dropped, Counter):
        raise script_error(protocol, "returned a Draft whose `elements` is no list, or whose `dropped` is no Counter")
    for element in draft.elements:
        if not isinstance(element, Element) or not is_unicode(element.user) or not is_unicode(element.assistant):
            raise script_error(
                protocol, f"returned the element {describe(element)}; write Element(user=…, assistant=…)"
            )
    if wrong := [count for count in draft.dropped.items() if not is_unicode(count[0]) or type(count[1]) is not int]:
        raise script_error(protocol, f"returned dropped={describe(wrong[0])}; count by reason, which is a text")
    return draft


def is_blank(element: Element) -> bool:
    """Has it a turn without text?"""
    return not element.user.strip() or not element.assistant.strip()


def describe_raised(protocol: Protocol, error: BaseException) -> ScriptError:
    """What a script raised, with the last line of its own file on the way there."""
    file = place_of(protocol.write).rpartition(":")[0]
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    what = f"raised {type(error).__name__}: {str(error)[:200]!r}"
    return script_error(protocol, f"{what}; count as dropped what cannot be used", lines[-1] if lines else None)


def script_error(protocol: Protocol, what: str, line: int | None = None) -> ScriptError:
    """An error of a script at a line of its file; without one, where its function begins."""
    file, _, first = place_of(protocol.write).rpartition(":")
    return ScriptError(f"{file}:{line or first}: protocol {protocol.name!r} {what}")
