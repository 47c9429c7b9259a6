"""News items and their questions: the types, `load_news`, which reads them, and `check_length`.

A news file is JSON Lines in UTF-8: one item per line; blank lines are skipped.

    {"id": "events-01", "domain": "events", "text": "From 2028 the ferry of Skarvik sails at night.",
     "questions": [{"text": "When does the ferry of Skarvik sail in 2029?",
                    "options": ["by night", "by day"], "answer": "by night", "kind": "recall"}],
     "statements": [{"true": "In 2029 the ferry of Skarvik sails by moonlight.",
                     "false": "In 2029 the ferry of Skarvik sails by sunlight."}],
     "task": {"text": "Does the ferry of Skarvik sail at 23:00 or at noon? Answer with the time alone.",
              "answers": ["23:00", "11 p.m."]}}

(The example has line breaks for reading; in a file it is one line.) `domain` groups items that are trained and scored
together: a subject, a project, a team. It may be any name that can be part of a file name. `answer` repeats the text of
the right option, so the order of the options may change. Optional fields:

- `kind` of a question: one of KINDS.
- `draft` of a question: true if a model wrote it and no person has checked it.
- `statements`: pairs of a true and a false sentence that differ as little as possible.
- `task`: a question without options; `answers` lists every accepted answer.

Ids are made of the item's id and the position: `events-01/q1`, `events-01/s1`, `events-01/t`. `load_news()` reads the
shipped news.
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
    """A multiple-choice question. `answer`: index of the right option, from 0; `draft`: no person has checked it."""

    id: str
    text: str
    options: tuple[str, ...]
    answer: int
    kind: str | None = None
    draft: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Statements:
    """Two statements. `true` follows from the news, `false` does not: which one is more likely to a model?"""

    id: str
    true: str
    false: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A question without options. `answers`: every accepted form of the right answer."""

    id: str
    text: str
    answers: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class NewsItem:
    """A short text of new knowledge, with its questions. `line`: its line in the file, from 1."""

    id: str
    domain: str
    text: str
    questions: tuple[Question, ...]
    statements: tuple[Statements, ...] = ()
    task: Task | None = None
    line: int = field(default=0, compare=False, repr=False)

    def __hash__(self) -> int:
        """Of what makes it unlike others: a study looks up its items for each of its trials."""
        return hash((self.id, self.text))


def load_news(path: NewsPath = None) -> list[NewsItem]:
    """Reads news in the order of the file; None reads the shipped news. Raises NewsError with all faults."""
    return [_parse_item(record, number) for number, record in read_records(path).items()]


def check_length(
    items: Iterable[NewsItem], source: NewsPath, count_tokens: Callable[[str], int], max_context: int, model: str
) -> None:
    """Checks that each item, with its longest question and options, fits into a model's context (tokens).

    `source` is the argument of `load_news`. The tokens of a chat template are not counted: subtract them from
    `max_context`. Raises NewsError with every item that is too long.
    """
    faults: list[tuple[int, str]] = []
    for item in items:
        tokens = count_tokens(item.text)
        question = max((count_tokens("\n".join((q.text, *q.options))) for q in item.questions), default=0)
        if tokens + question > max_context:
            what = f"too long for {model}: {item.id}, text {tokens} + longest question {question} tokens"
            faults.append((item.line, f"{what}; shorten to {max_context} in total, or choose another model"))
    refuse(source, faults)


def _parse_item(record: Mapping[str, Any], line: int) -> NewsItem:
    name, task = record["id"], record.get("task")
    return NewsItem(
        id=name,
        domain=record["domain"],
        text=record["text"],
        questions=tuple(parse_question(q, f"{name}/q{number}") for number, q in enumerate(record["questions"], 1)),
        statements=tuple(Statements(id=f"{name}/s{n}", **p) for n, p in enumerate(record.get("statements", ()), 1)),
        task=Task(id=f"{name}/t", text=task["text"], answers=tuple(task["answers"])) if task else None,
        line=line,
    )


def parse_question(record: Mapping[str, Any], name: str) -> Question:
    """Makes a question of a record that has no faults. `name` becomes its id."""
    options = tuple(record["options"])
    return Question(
        id=name,
        text=record["text"],
        options=options,
        answer=options.index(record["answer"]),
        kind=record.get("kind"),
        draft=record.get("draft", False),
    )
