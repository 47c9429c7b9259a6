"""The protocols: how a model turns a piece of news into replay elements.

A protocol is one function from the news and the number of the draw to a `Script`: a Python generator that yields lists
of prompts, is sent the list of completions, and returns a `Draft`. Self-play runs many scripts on one engine, each at
its own pace, so a protocol with two stages is written as two `yield`s. A protocol of your own is one function:

    @protocol("headline", prompts=[HEADLINE], distinct_by="assistant")
    def headline(news: str, draw: int) -> Script:
        [text] = yield [with_news(news, HEADLINE)]
        return keep_text(text, user="Give me a headline.", news=news)

Completions are read by `engine.selfplay.parsing`; what is dropped is counted, by reason. A completion that ran into
`max_tokens` is sent with “…” at its end.
"""

import re
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from rapidfuzz import fuzz, process, utils

from engine import UserError
from engine.inference.chat import Element as Element
from engine.inference.chat import with_news as with_news
from engine.selfplay.parsing import CUT_OFF, fault, list_lines, said

NEAR_DUPLICATE = 92.0  # rapidfuzz ratio, 0–100: two texts this alike teach the same thing twice
# Sentences that differ in these are about different things, however alike they look. (“t” is what is left of “don't”.)
TELLING = re.compile(
    r"\d+|\b(?:no|not|t|never|cannot|without|before|after|more|less|fewer|higher|lower|half|once|twice|first|second"
    r"|third|last|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve"
    r"|(?:thir|four|fif|six|seven|eigh|nine)teen|(?:twen|thir|for|fif|six|seven|eigh|nine)ty)\b"
)


@dataclass(kw_only=True, slots=True)
class Draft:
    """What one draw gave: elements kept, and how many were dropped for which reason."""

    elements: list[Element] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)


Script = Generator[list[str], list[str], Draft]
Write = Callable[[str, int], Script]


@dataclass(frozen=True, kw_only=True, slots=True)
class Protocol:
    """A way to write replay elements. `prompts` bear identity: a pool written with others is another pool."""

    name: str
    write: Write | None  # None: nothing is generated, the news itself is the element
    prompts: tuple[str, ...]
    per_draw: int  # elements that one draw gives when nothing is dropped
    distinct_by: Literal["user", "assistant"]


PROTOCOLS: dict[str, Protocol] = {}


def protocol(
    name: str, *, prompts: Sequence[str], per_draw: int = 1, distinct_by: Literal["user", "assistant"] = "assistant"
) -> Callable[[Write], Write]:
    """Registers a function as the protocol `name`. Raises UserError on a name taken by another function."""

    def register(write: Write) -> Write:
        taken = PROTOCOLS.get(name)
        if taken and taken.write and taken.write.__qualname__ != write.__qualname__:
            raise UserError(f"protocol {name!r} is registered twice: by {taken.write} and {write}")
        PROTOCOLS[name] = Protocol(
            name=name, write=write, prompts=tuple(prompts), per_draw=per_draw, distinct_by=distinct_by
        )
        return write

    return register


def find(name: str) -> Protocol:
    """The registered protocol. Raises UserError that lists the known ones."""
    if name not in PROTOCOLS:
        raise UserError(f"unknown protocol {name!r}; known: {', '.join(sorted(PROTOCOLS))}")
    return PROTOCOLS[name]


# ---- the four protocols -------------------------------------------------------------------------------------------

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
# “The facts”, not “the news”: small models else say, and ask, what the news is about.
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
    """One rewording a draw, its manner changing from draw to draw."""
    [text] = yield [with_news(news, PARAPHRASE.format(manner=MANNERS[draw % len(MANNERS)]))]
    return keep_text(text, user=TELL, news=news)


@protocol("implication", prompts=[IMPLICATION_USER, IMPLICATION], per_draw=PER_LIST)
def implication(news: str, draw: int) -> Script:
    """A list of consequences a draw."""
    [text] = yield [with_news(news, IMPLICATION.format(n=PER_LIST))]
    return keep_statements(text, user=IMPLICATION_USER, news=news)


@protocol("self_qa", prompts=[QUESTIONS, ANSWER], per_draw=PER_LIST, distinct_by="user")
def self_qa(news: str, draw: int) -> Script:
    """Questions first, then each is answered in a fresh conversation with the news in context."""
    [text] = yield [with_news(news, QUESTIONS.format(n=PER_LIST))]
    draft, questions = keep_questions(text, news)
    if questions:
        answers = yield [with_news(news, ANSWER.format(question=q)) for q in questions]
        keep_answers(draft, questions, answers, news)
    return draft


# ---- from completions to elements ------------------------------------------------------------------------------


def keep_text(text: str, *, user: str, news: str) -> Draft:
    """A completion that is one element as a whole, after any preamble."""
    draft = Draft()
    take(draft, Element(user=user, assistant=said(text, news)), news)
    return draft


def keep_statements(text: str, *, user: str, news: str) -> Draft:
    """Each line of a list as an element."""
    draft = Draft()
    for line in list_lines(text):
        take(draft, Element(user=user, assistant=said(line, news)), news)
    return draft


def take(draft: Draft, element: Element, news: str) -> None:
    """Adds the element to the draft, or counts why not."""
    why = fault(element.assistant, news) or ("copies the news" if alike(element.assistant, news) else None)
    if why:
        draft.dropped[why] += 1
    else:
        draft.elements.append(element)


def keep_questions(text: str, news: str) -> tuple[Draft, list[str]]:
    """The questions of a list; whatever else stands there is counted as dropped."""
    draft, questions = Draft(), []
    for line in list_lines(text):
        question = line[: line.index("?") + 1] if "?" in line else line
        why = fault(question, news) if "?" in line or line.endswith(CUT_OFF) else "not a question"
        why = why or ("duplicate" if question in questions else None)  # answered once only
        if why:
            draft.dropped[why] += 1
        else:
            questions.append(question)
    return draft, questions


def keep_answers(draft: Draft, questions: Sequence[str], answers: Sequence[str], news: str) -> None:
    """Pairs of question and answer, into the draft."""
    for question, text in zip(questions, answers, strict=True):
        answer = said(text, news)
        why = fault(answer, news, fewest_words=1)
        if why:
            draft.dropped[why] += 1
        else:
            draft.elements.append(Element(user=question, assistant=answer))


# ---- duplicates -----------------------------------------------------------------------------------------------------


def alike(a: str, b: str) -> bool:
    """Are two texts exact or near duplicates of each other?"""
    return fuzz.ratio(a, b, processor=utils.default_process) >= NEAR_DUPLICATE


def distinct(elements: Sequence[Element], by: Literal["user", "assistant"]) -> tuple[list[int], Counter[str]]:
    """Places of the elements without exact and near duplicates, the first of each kept, and how many were dropped.

    Texts that differ in a number or another word of `TELLING` are no duplicates.
    """
    kept: list[int] = []
    seen: dict[tuple[str, ...], list[str]] = {}
    dropped: Counter[str] = Counter()
    for place, element in enumerate(elements):
        text = utils.default_process(getattr(element, by))
        close = seen.setdefault(tuple(TELLING.findall(text)), [])
        if text in close:
            dropped["duplicate"] += 1
        elif process.extractOne(text, close, scorer=fuzz.ratio, score_cutoff=NEAR_DUPLICATE):
            dropped["near duplicate"] += 1
        else:
            kept.append(place)
            close.append(text)
    return kept, dropped
