"""The protocols: how a model turns a piece of news into replay elements.

A protocol is one function from the news and the number of the draw to a `Script`: a Python generator that yields lists
of prompts, is sent the list of completions, and returns a `Draft`. Self-play runs many scripts on one engine, each at
its own pace, so a protocol with two stages is written as two `yield`s. A protocol of your own is one function:

    @protocol("headline", prompts=[HEADLINE], distinct_by="assistant")
    def headline(news: str, draw: int) -> Script:
        [text] = yield [with_news(news, HEADLINE)]
        return keep_text(text, user="Give me a headline.", news=news)

Parsers are pure functions. They keep what is good of a messy output and count what they drop, by reason. A completion
that ran into `max_tokens` is sent with “…” at its end.
"""

import re
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from rapidfuzz import fuzz, process, utils

from engine.chat import with_news

ContextMode = Literal["none", "prefix", "prefix_loss"]
CONTEXT_MODES: tuple[ContextMode, ...] = ("none", "prefix", "prefix_loss")

PARSERS = 1  # bears identity: raised whenever the parsers keep something else of the same completion
CUT_OFF = "…"  # at the end of a completion that ran into its limit of tokens
NEAR_DUPLICATE = 92.0  # rapidfuzz ratio, 0–100: two texts this alike teach the same thing twice
MIN_WORDS, MAX_WORDS = 3, 200
# What a reader without the text could not resolve: such an element teaches nothing that can be asked later.
REFERS_TO_TEXT = re.compile(
    r"\b(?:the|this|that|given|above|provided)\s+(?:\w+\s+)?"
    r"(?P<noun>text|passage|article|paragraph|context|excerpt|snippet)\b"
    r"|\b(?:the|this)\s+(?P<news>news)\b(?!\s+is\b)"  # “The news is that …” is how some answer what the news is
    r"|\baccording to (?:the|this) (?:report|statement|announcement)\b"
    r"|\b(?:mentioned|described|stated) above\b",
    re.IGNORECASE,
)
REFUSAL = re.compile(r"\bas an ai\b|\bi(?:['’]m| am) sorry\b|\bi (?:cannot|can['’]t)\b", re.IGNORECASE)
# “1.”, “-”, “Question 2:”, and “1. Question:”; not the numbers of “9 - 4 is 5”, “-3” and “1.5”.
LIST_MARK = re.compile(
    r"^\s*(?:(?:\*\*)?(?:\d+\s*[.):\]](?!\d)|[-*•–](?=\s)|(?:question|q|implication|consequence)\s*\d*\s*[.):\]-])\s*){1,2}",
    re.IGNORECASE,
)
PREAMBLE = re.compile(
    r"^\s*(?:sure|certainly|of course|okay|here(?:'s| is| are)|(?:re)?(?:written|phrased|wording)\b)[^\n]*?:\s*\n?|"
    r"^\s*(?:paraphrase|rewrite|rewording|answer|news|consequence|implication)\s*:\s*",
    re.IGNORECASE,
)
# “The news states that it rains.” is a good sentence after these words.
ATTRIBUTION = re.compile(
    r"^(?:(?:the|this) (?:news|text|passage|article) (?:also |further )?"
    r"(?:states|says|suggests|indicates|reports|mentions|implies|shows|reveals|explains) that|"
    r"according to (?:the|this) (?:news|text|passage|article|information|facts?)(?: above| provided)?,)\s+(?=\w)",
    re.IGNORECASE,
)
NOTE = re.compile(r"^\W*(?:note|explanation)\b\W*:", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Element:
    """A replay element: the conversation that a model is trained on."""

    user: str
    assistant: str


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
    """Registers a function as the protocol `name`. Raises ValueError on a name taken by another function."""

    def register(write: Write) -> Write:
        taken = PROTOCOLS.get(name)
        if taken and taken.write and taken.write.__qualname__ != write.__qualname__:
            raise ValueError(f"protocol {name!r} is registered twice: by {taken.write} and {write}")
        PROTOCOLS[name] = Protocol(
            name=name, write=write, prompts=tuple(prompts), per_draw=per_draw, distinct_by=distinct_by
        )
        return write

    return register


def find(name: str) -> Protocol:
    """The registered protocol. Raises ValueError that lists the known ones."""
    if name not in PROTOCOLS:
        raise ValueError(f"unknown protocol {name!r}; known: {', '.join(sorted(PROTOCOLS))}")
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
IMPLICATION = (
    "Think about what follows from the news above. Write {n} consequences as a numbered list, one sentence each. "
    "Each must be understandable to someone who has not read the news, so name who or what it is about, "
    "and never refer to “the text”."
)
# “The facts”, not “the news”: small models else ask what the news is about.
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


# ---- parsers: pure, tolerant, counting ------------------------------------------------------------------------------


def tidy(text: str) -> str:
    """The text without markdown emphasis, surrounding quotes and runs of white space."""
    text = re.sub(r"\s+", " ", re.sub(r"\*\*|__|^#+\s*", "", text)).strip()
    return text[1:-1].strip() if len(text) > 1 and text[0] + text[-1] in ('""', "''", "“”") else text


def said(text: str, news: str) -> str:
    """What a completion says, without preamble, “the news states that”, and paragraphs that are no good."""
    parts = [without_attribution(part) for part in re.split(r"\n\s*\n", PREAMBLE.sub("", text, count=1))]
    good = [part for part in parts if not (NOTE.match(part) or flaw(part, news))]
    return tidy("\n".join(good or parts))


def without_attribution(text: str) -> str:
    """“It rains.” for “The news states that it rains.”"""
    bare, n = ATTRIBUTION.subn("", text, count=1)
    return bare[:1].upper() + bare[1:] if n else text


def refers_to_text(sentence: str, news: str) -> bool:
    """Does a sentence speak of the text before it? Not if the news itself is about a text editor, say."""
    own = set(re.findall(r"\w+", news.casefold()))
    return any(
        (match["noun"] or match["news"] or "").casefold() not in own for match in REFERS_TO_TEXT.finditer(sentence)
    )


def flaw(text: str, news: str) -> str | None:
    """Why a text of any length is no good as training data, or None."""
    if text.endswith(CUT_OFF):
        return "cut off"
    if REFUSAL.search(text):
        return "a refusal"
    return "refers to the text" if refers_to_text(text, news) else None


def fault(text: str, news: str, fewest_words: int = MIN_WORDS) -> str | None:
    """Why a sentence is no good as training data, or None."""
    n_words = len(text.split())
    if n_words < fewest_words:
        return "too short"
    return "too long" if n_words > MAX_WORDS else flaw(text, news)


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
        why = fault(question, news) or (None if "?" in line else "not a question")
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


def list_lines(text: str) -> list[str]:
    """The entries of a list: its marked lines, or all lines where none is marked; marks and preambles taken off."""
    lines = [line for line in text.splitlines() if line.strip()]
    marked = [line for line in lines if LIST_MARK.match(line)]
    return [tidy(LIST_MARK.sub("", line, count=1)) for line in marked or lines]


# ---- duplicates -----------------------------------------------------------------------------------------------------


def alike(a: str, b: str) -> bool:
    """Are two texts exact or near duplicates of each other?"""
    return fuzz.ratio(a, b, processor=utils.default_process) >= NEAR_DUPLICATE


def distinct(elements: Iterable[Element], by: Literal["user", "assistant"]) -> tuple[list[Element], Counter[str]]:
    """Elements without exact and near duplicates, the first of each kept in order, and how many were dropped."""
    kept: list[Element] = []
    seen: list[str] = []
    dropped: Counter[str] = Counter()
    for element in elements:
        text = utils.default_process(getattr(element, by))
        if text in seen:
            dropped["duplicate"] += 1
        elif process.extractOne(text, seen, scorer=fuzz.ratio, score_cutoff=NEAR_DUPLICATE):
            dropped["near duplicate"] += 1
        else:
            kept.append(element)
            seen.append(text)
    return kept, dropped
