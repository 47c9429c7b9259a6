"""A rehearsal of a protocol: its script runs on one item with made completions, before any engine starts.

It finds what a script does wrong whatever is written. What it would do with other completions it cannot know: that a
parser keeps nothing of these is no fault.
"""

import sys
import threading

from engine.selfplay.protocols import Draft, Protocol, place_of
from engine.selfplay.scripts import ScriptError, advance, is_blank, open_script, script_error

SECONDS = 30.0  # for one protocol; ours take milliseconds
# One per draw, for all of its prompts: a sentence, a list of questions, a list of statements.
COMPLETIONS = (
    "From 1 June 2028 the ferry from Lindvik to Tarsund sails at night, and cyclists travel free of charge.",
    "1. When does the ferry from Lindvik to Tarsund sail?\n2. Who travels free of charge to Tarsund?",
    "Here are the consequences:\n- Cyclists pay nothing for the ferry to Tarsund.\n- The harbour is open at night.",
)


def find_faults(protocol: Protocol, news: str) -> list[str]:
    """What the rehearsal of a protocol finds, with file and line; empty if it ends well or writes nothing."""
    if protocol.write is None:
        return []
    raised: list[Exception] = []
    # A thread, since a script that does not come back can be left behind there, and every thread may plan.
    thread = threading.Thread(target=rehearse, args=(protocol, news, raised), daemon=True)
    thread.start()
    thread.join(SECONDS)
    if thread.is_alive():
        line = current_line(thread, place_of(protocol.write).rpartition(":")[0])
        raised = [script_error(protocol, f"has not come to a `yield` or `return` after {SECONDS:g} s", line)]
    for error in raised:
        if not isinstance(error, ScriptError):
            raise error  # a bug of ours
    return [str(error) for error in raised]


def rehearse(protocol: Protocol, news: str, raised: list[Exception]) -> None:
    """Makes one draw per completion; keeps the first error."""
    try:
        for draw, completion in enumerate(COMPLETIONS):
            if any(map(is_blank, make_draw(protocol, news, draw, completion).elements)):
                raise script_error(protocol, f"gives an element without text for {completion!r}; count it as dropped")
    except Exception as error:
        raised.append(error)


def make_draw(protocol: Protocol, news: str, draw: int, completion: str) -> Draft:
    """Runs a script to its end; every prompt is answered by the same completion."""
    script, stage, answers = open_script(protocol, news, draw), 0, None
    while not isinstance(step := advance(protocol, script, stage, answers), Draft):
        stage, answers = stage + 1, [completion] * len(step)
    return step


def current_line(thread: threading.Thread, file: str) -> int | None:
    """The line of a file at which a thread is."""
    frame = sys._current_frames().get(thread.ident or 0)
    while frame and frame.f_code.co_filename != file:
        frame = frame.f_back
    return frame.f_lineno if frame else None
