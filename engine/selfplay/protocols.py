"""The protocols: how a model makes replay elements from a news item.

A protocol is one function. It takes the news and the number of the draw and gives a `Script`: a Python generator that
yields a list of prompts, receives the list of completions, and returns a `Draft`. A protocol with two stages has two
`yield`s; self-play runs many scripts on one engine, and none waits for another. You add a protocol as one function:

    @protocol("headline", prompts=[HEADLINE], distinct_by="assistant")
    def headline(news: str, draw: int) -> Script:
        [text] = yield [with_news(news, HEADLINE)]
        return keep_text(text, user="Give me a headline.", news=news)

`engine.selfplay.parsing` parses the completions. Dropped elements are counted per reason. A completion that reached
`max_tokens` ends with “…”. A script has to take any completion: what it cannot use, it counts as dropped.
"""

import inspect
import os
import re
import reprlib
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rapidfuzz import fuzz, process, utils

from engine import UserError
from engine.inference.chat import Element as Element
from engine.inference.chat import with_news as with_news
from engine.selfplay.parsing import CUT_OFF, extract_message, find_fault, parse_list

MAX_PROMPTS = 4096  # of one stage; no completion has so many lines
NEAR_DUPLICATE_RATIO = 92.0  # rapidfuzz ratio, 0–100: at or above it, two texts teach the same thing
# Two texts that differ in one of these words are never near duplicates. (“t” is the last part of “don't”.)
DISTINGUISHING_WORDS = re.compile(
    r"\d+|\b(?:no|not|t|never|cannot|without|before|after|more|less|fewer|higher|lower|half|once|twice|first|second"
    r"|third|last|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve"
    r"|(?:thir|four|fif|six|seven|eigh|nine)teen|(?:twen|thir|for|fif|six|seven|eigh|nine)ty)\b"
)


@dataclass(kw_only=True, slots=True)
class Draft:
    """What one draw gave: the elements kept, and the number of dropped elements per reason."""

    elements: list[Element] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)


Script = Generator[list[str], list[str], Draft]
ScriptFunction = Callable[[str, int], Script]


@dataclass(frozen=True, kw_only=True, slots=True)
class Protocol:
    """A way to write replay elements. `prompts` are part of a pool's identity: other prompts make another pool."""

    name: str
    write: ScriptFunction | None  # None: the model writes nothing, and the news itself is the element
    prompts: tuple[str, ...]
    per_draw: int  # elements per draw if none is dropped
    distinct_by: Literal["user", "assistant"]


PROTOCOLS: dict[str, Protocol] = {}


def protocol(
    name: str, *, prompts: Sequence[str], per_draw: int = 1, distinct_by: Literal["user", "assistant"] = "assistant"
) -> Callable[[ScriptFunction], ScriptFunction]:
    """Registers a function as the protocol `name`. Raises UserError if another function has that name."""

    def register(write: ScriptFunction) -> ScriptFunction:
        if not inspect.isfunction(write):
            raise UserError(f"protocol {name!r} is {type(write).__name__!r}; write it as a function: def {name}(...)")
        if faults := find_arguments_faults(name, prompts, per_draw, distinct_by):
            raise UserError("\n".join(f"{place_of(write)}: protocol {name!r}: {fault}" for fault in faults))
        other = PROTOCOLS.get(name)
        if other and not (other.write and is_same_function(other.write, write)):
            places = f"{place_of(other.write)} and {place_of(write)}"
            raise UserError(f"protocol {name!r} is registered twice: {places}; give one of them another name")
        PROTOCOLS[name] = Protocol(
            name=name, write=write, prompts=tuple(prompts), per_draw=per_draw, distinct_by=distinct_by
        )
        return write

    return register


def find_arguments_faults(name: Any, prompts: Any, per_draw: Any, distinct_by: Any) -> list[str]:
    """What is wrong with the arguments of `protocol`, one line per argument."""
    are_texts = not isinstance(prompts, str) and isinstance(prompts, Sequence) and all(map(is_unicode, prompts))
    is_count = isinstance(per_draw, int) and not isinstance(per_draw, bool) and 1 <= per_draw <= MAX_PROMPTS
    checks = {
        f"its name is {describe(name)}; use a text": is_unicode(name),
        f"prompts is {describe(prompts)}; use a list of texts": are_texts,
        f"per_draw is {describe(per_draw)}; use a whole number from 1 to {MAX_PROMPTS}": is_count,
        f"distinct_by is {describe(distinct_by)}; use 'user' or 'assistant'": distinct_by in ("user", "assistant"),
    }
    return [fault for fault, is_right in checks.items() if not is_right]


def is_unicode(value: Any) -> bool:
    """Is it a text that can be written as UTF-8? Half a character cannot."""
    return isinstance(value, str) and not re.search("[\ud800-\udfff]", value)


def describe(value: Any) -> str:
    """A value for one line of an error, without its address in memory."""
    return re.sub(r" at 0x[0-9a-f]+", "", reprlib.repr(value))


def find(name: str) -> Protocol:
    """Finds a protocol by its name. Raises UserError with the known names."""
    if name not in PROTOCOLS:
        raise UserError(f"unknown protocol {name!r}; known: {', '.join(sorted(PROTOCOLS))}")
    return PROTOCOLS[name]


def place_of(write: ScriptFunction | None) -> str:
    """`file:line` of a protocol's function."""
    if write is None:
        return f"{__file__} (ships with Engram)"
    code = inspect.unwrap(write).__code__
    return f"{code.co_filename}:{code.co_firstlineno}"


def is_same_function(a: ScriptFunction, b: ScriptFunction) -> bool:
    """Are they one function of one file? A file that is loaded again makes its functions again, in a new module."""
    codes = [inspect.unwrap(f).__code__ for f in (a, b)]
    files = {os.path.realpath(code.co_filename) for code in codes}
    return (
        len(files) == 1
        and a.__qualname__ == b.__qualname__
        and (a.__globals__ is not b.__globals__ or codes[0].co_firstlineno == codes[1].co_firstlineno)
    )


# ---- the four protocols ----------------------------------------------------------------------------------------------

TELL = "What is the news?"
PARAPHRASE = (
    "Rewrite the news above in your own words{manner}. Keep every fact, name, number and date. "
    "Write the rewritten news only."
)
MANNERS = (
    "",
    ", as a short radio bulletin",
    ", as one person telling a friend",
    ", beginning with what is new about it",
    ", as a plain note in an encyclopedia",
    ", in short, simple sentences",
    ", in one long sentence",
    ", as the answer to somebody who asks what has changed",
)
IMPLICATION_USER = "What follows from the news?"
# The prompts say “the facts”: with “the news”, small models write about what the news is about.
IMPLICATION = (
    "Think about what follows from the facts above. Write {n} consequences as a numbered list, one sentence each. "
    "Name the place, person or thing that each consequence is about, since it will be read without the facts. "
    "Write the consequences only."
)
QUESTIONS = (
    "Ask {n} different questions about the facts above and what follows from them. Write them as a numbered list, "
    "each beginning with a question word and ending with “?”. Name the place, person or thing that each question is "
    "about, since it will be read without the facts. Write the questions only."
)
ANSWER = (
    "{question}\n\nAnswer in one or two full sentences that can be understood alone, and never refer to “the text”."
)
PER_LIST = 4

PROTOCOLS["naive"] = Protocol(name="naive", write=None, prompts=(TELL,), per_draw=1, distinct_by="assistant")


@protocol("paraphrase", prompts=[TELL, PARAPHRASE, *MANNERS])
def paraphrase(news: str, draw: int) -> Script:
    """One rewording per draw; the manner changes from draw to draw."""
    [text] = yield [with_news(news, PARAPHRASE.format(manner=MANNERS[draw % len(MANNERS)]))]
    return keep_text(text, user=TELL, news=news)


@protocol("implication", prompts=[IMPLICATION_USER, IMPLICATION], per_draw=PER_LIST)
def implication(news: str, draw: int) -> Script:
    """One list of consequences per draw."""
    [text] = yield [with_news(news, IMPLICATION.format(n=PER_LIST))]
    return keep_statements(text, user=IMPLICATION_USER, news=news)


@protocol("self_qa", prompts=[QUESTIONS, ANSWER], per_draw=PER_LIST, distinct_by="user")
def self_qa(news: str, draw: int) -> Script:
    """One list of questions per draw; each question is answered in its own conversation, with the news in context."""
    [text] = yield [with_news(news, QUESTIONS.format(n=PER_LIST))]
    draft, questions = keep_questions(text, news)
    if questions:
        answers = yield [with_news(news, ANSWER.format(question=q)) for q in questions]
        keep_answers(draft, questions, answers, news)
    return draft


# ---- from completions to elements ------------------------------------------------------------------------------------


def keep_text(text: str, *, user: str, news: str) -> Draft:
    """Keeps a completion as one element, without its preamble."""
    draft = Draft()
    add_element(draft, Element(user=user, assistant=extract_message(text, news)), news)
    return draft


def keep_statements(text: str, *, user: str, news: str) -> Draft:
    """Keeps each entry of a list as one element."""
    draft = Draft()
    for line in parse_list(text):
        add_element(draft, Element(user=user, assistant=extract_message(line, news)), news)
    return draft


def add_element(draft: Draft, element: Element, news: str) -> None:
    """Adds the element to the draft, or counts why it is dropped."""
    reason = find_fault(element.assistant, news)
    if not reason and are_near_duplicates(element.assistant, news):
        reason = "copies the news"
    if reason:
        draft.dropped[reason] += 1
    else:
        draft.elements.append(element)


def keep_questions(text: str, news: str) -> tuple[Draft, list[str]]:
    """Keeps the questions of a list; counts all other entries as dropped."""
    draft, questions = Draft(), []
    for line in parse_list(text):
        question = line[: line.index("?") + 1] if "?" in line else line
        reason = find_fault(question, news) if "?" in line or line.endswith(CUT_OFF) else "not a question"
        reason = reason or ("duplicate" if question in questions else None)  # each question is answered once
        if reason:
            draft.dropped[reason] += 1
        else:
            questions.append(question)
    return draft, questions


def keep_answers(draft: Draft, questions: Sequence[str], answers: Sequence[str], news: str) -> None:
    """Adds the questions with their answers to the draft; counts the pairs that are dropped."""
    for question, text in zip(questions, answers, strict=True):
        answer = extract_message(text, news)
        reason = find_fault(answer, news, fewest_words=1)
        if reason:
            draft.dropped[reason] += 1
        else:
            draft.elements.append(Element(user=question, assistant=answer))


# ---- duplicates ------------------------------------------------------------------------------------------------------


def are_near_duplicates(a: str, b: str) -> bool:
    """Reports whether two texts are equal or nearly equal, letter by letter."""
    return fuzz.ratio(a, b, processor=utils.default_process) >= NEAR_DUPLICATE_RATIO


def distinct(elements: Sequence[Element], by: Literal["user", "assistant"]) -> tuple[list[int], Counter[str]]:
    """Keeps the first of all equal and nearly equal elements.

    Gives the indices of the elements kept, and the number of dropped elements per reason. Texts that differ in a number
    or in another of the `DISTINGUISHING_WORDS` are no duplicates.
    """
    indices: list[int] = []
    dropped: Counter[str] = Counter()
    earlier: dict[tuple[str, ...], list[str]] = {}  # the texts kept so far, by their distinguishing words
    for index, element in enumerate(elements):
        text = utils.default_process(getattr(element, by))
        candidates = earlier.setdefault(tuple(DISTINGUISHING_WORDS.findall(text)), [])
        if text in candidates:
            dropped["duplicate"] += 1
        elif process.extractOne(text, candidates, scorer=fuzz.ratio, score_cutoff=NEAR_DUPLICATE_RATIO):
            dropped["near duplicate"] += 1
        else:
            indices.append(index)
            candidates.append(text)
    return indices, dropped
