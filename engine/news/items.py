"""News items and what is asked about them, read from JSON Lines: one item a line, UTF-8, blank lines skipped.

    {"id": "events-01", "domain": "events", "text": "From 2028 the ferry of Skarvik sails at night.",
     "questions": [{"text": "When does the ferry of Skarvik sail in 2029?",
                    "options": ["by night", "by day"], "answer": "by night", "kind": "recall"}],
     "statements": [{"true": "In 2029 the ferry of Skarvik sails by moonlight.",
                     "false": "In 2029 the ferry of Skarvik sails by sunlight."}],
     "task": {"text": "Does the ferry of Skarvik sail at 23:00 or at noon? Answer with the time alone.",
              "answers": ["23:00", "11 p.m."]}}

(broken here for reading; in a file it is one line). `answer` repeats the text of the right option, so that options may
change places. May be left out: `kind` (one of KINDS); `draft` (true until a person has checked a question that was not
written by one); `statements` (pairs that differ as little as can be); `task` (asked freely; `answers` are all that are
accepted). Ids come from the item's id and positions: `events-01/q1`, `events-01/s1`, `events-01/t`. `load_news()` reads
the shipped news.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.news.format import DOMAINS as DOMAINS
from engine.news.format import KINDS as KINDS
from engine.news.format import NewsError as NewsError
from engine.news.format import NewsPath, read_records, refuse


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """A multiple-choice question. `answer`: the right option's index, from 0; `draft`: no person has checked it yet."""

    id: str
    text: str
    options: tuple[str, ...]
    answer: int
    kind: str | None = None
    draft: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Statements:
    """Two statements, one of which follows from the news: which does a model find likelier?"""

    id: str
    true: str
    false: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A question without options; `answers` are all forms of the right answer that are accepted."""

    id: str
    text: str
    answers: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class NewsItem:
    """A short text of new knowledge and what is asked about it. `line`, from 1, says where it was read."""

    id: str
    domain: str
    text: str
    questions: tuple[Question, ...]
    statements: tuple[Statements, ...] = ()
    task: Task | None = None
    line: int = field(default=0, compare=False, repr=False)


def load_news(path: NewsPath = None) -> list[NewsItem]:
    """Read news in the order of the file; None reads the shipped news. Raises NewsError with all faults of the file."""
    return [_item(record, number) for number, record in read_records(path).items()]


def check_length(
    items: Iterable[NewsItem], source: NewsPath, count_tokens: Callable[[str], int], max_context: int, model: str
) -> None:
    """Check that each item fits into a model's context (tokens), together with its longest question and options.

    `source` is what `load_news` was given. A chat template's own tokens are not counted: take them off `max_context`.
    Raises NewsError with every item that is too long.
    """
    faults: list[tuple[int, str]] = []
    for item in items:
        tokens = count_tokens(item.text)
        question = max((count_tokens("\n".join((q.text, *q.options))) for q in item.questions), default=0)
        if tokens + question > max_context:
            what = f"too long for {model}: {item.id}, text {tokens} + longest question {question} tokens"
            faults.append((item.line, f"{what}; shorten to {max_context} together, or choose another model"))
    refuse(source, faults)


def _item(record: Mapping[str, Any], line: int) -> NewsItem:
    name, task = record["id"], record.get("task")
    return NewsItem(
        id=name,
        domain=record["domain"],
        text=record["text"],
        questions=tuple(_question(q, f"{name}/q{number}") for number, q in enumerate(record["questions"], 1)),
        statements=tuple(Statements(id=f"{name}/s{n}", **p) for n, p in enumerate(record.get("statements", ()), 1)),
        task=Task(id=f"{name}/t", text=task["text"], answers=tuple(task["answers"])) if task else None,
        line=line,
    )


def _question(record: Mapping[str, Any], name: str) -> Question:
    options = tuple(record["options"])
    answer = options.index(record["answer"])
    extras = {"kind": record.get("kind"), "draft": record.get("draft", False)}
    return Question(id=name, text=record["text"], options=options, answer=answer, **extras)
