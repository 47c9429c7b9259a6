"""News items and their questions, read from JSON Lines: one item a line, UTF-8, blank lines skipped.

    {"id": "events-01", "domain": "events", "text": "From 2028 the ferry of Skarvik sails at night.",
     "questions": [{"text": "When does the ferry of Skarvik sail in 2029?",
                    "options": ["by night", "by day"], "answer": "by night"}]}

(broken here for reading; in a file it is one line). `answer` repeats the text of the right option, so that options may
change places. A question's id is its item's id and its position: `events-01/q1`. `load_news()` reads the shipped news.
"""

import json
import re
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

DOMAINS = ("mathematics", "coding", "discoveries", "leaderboards", "events")

NewsPath = str | Path | None  # None: the shipped news

_ITEM_FIELDS = {"id": str, "domain": str, "text": str, "questions": list}
_QUESTION_FIELDS = {"text": str, "options": list, "answer": str}
# An id becomes part of file names: short, nothing hidden (".x"), no parent folder (".."), no command-line flag ("-x").
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")  # JSON allows lone surrogates; tokenizers and UTF-8 do not
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80

_Fault = tuple[int, str]  # line number from 1, message


class NewsError(ValueError):
    """News that cannot be used. The message has one fault a line: `file:line: what: value; what to do`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """A multiple-choice question. `answer` is the index, from 0, of the right option in `options`."""

    id: str
    text: str
    options: tuple[str, ...]
    answer: int


@dataclass(frozen=True, kw_only=True, slots=True)
class NewsItem:
    """A short text of new knowledge and its questions. `line`, from 1, says where it was read and is no part of it."""

    id: str
    domain: str
    text: str
    questions: tuple[Question, ...]
    line: int = field(default=0, compare=False, repr=False)


def load_news(path: NewsPath = None) -> list[NewsItem]:
    """Read news in the order of the file; None reads the shipped news. Raises NewsError with all faults of the file."""
    source = _source(path)
    records, faults = _parse(_read(source))
    faults += [(number, fault) for number, record in records.items() for fault in _item_faults(record)]
    faults += _repeats("id in line", {number: record.get("id") for number, record in records.items()})
    _refuse(source, faults)
    return [_item(record, number) for number, record in records.items()]


def check_length(
    items: Iterable[NewsItem], source: NewsPath, count_tokens: Callable[[str], int], max_context: int, model: str
) -> None:
    """Check that each item fits into a model's context (tokens), together with its longest question and options.

    `source` is what `load_news` was given. A chat template's own tokens are not counted: take them off `max_context`.
    Raises NewsError with every item that is too long.
    """
    faults: list[_Fault] = []
    for item in items:
        tokens = count_tokens(item.text)
        question = max((count_tokens("\n".join((q.text, *q.options))) for q in item.questions), default=0)
        if tokens + question > max_context:
            what = f"too long for {model}: {item.id}, text {tokens} + longest question {question} tokens"
            faults.append((item.line, f"{what}; shorten to {max_context} together, or choose another model"))
    _refuse(_source(source), faults)


def _source(path: NewsPath) -> Traversable:
    return files("engine") / "data" / "news.jsonl" if path is None else Path(path)


def _read(source: Traversable) -> str:
    try:
        return source.read_bytes().decode("utf-8-sig")  # some editors put a byte order mark first
    except OSError as error:
        raise NewsError(f"{source}:1: cannot be read: {error.strerror}; check the path") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise NewsError(f"{source}:{line}: not UTF-8: byte {error.object[error.start]:#x}; save as UTF-8") from error


def _parse(text: str) -> tuple[dict[int, dict[str, Any]], list[_Fault]]:
    records: dict[int, dict[str, Any]] = {}
    faults: list[_Fault] = [] if text.strip() else [(1, _fault("no news in the file", text, "write one item a line"))]
    lines = enumerate(text.split("\n"), 1)  # splitlines would also split at U+2028, which JSON allows
    for number, line in ((number, line) for number, line in lines if line.strip()):
        try:
            records[number] = {**json.loads(line)}  # raises TypeError for all but an object
        except (ValueError, TypeError, RecursionError) as error:
            faults.append((number, _fault("not a JSON object", line, f"write one {{...}} a line ({error})")))
    return records, faults


def _item_faults(record: Mapping[str, Any]) -> Iterator[str]:
    yield from _field_faults(record, _ITEM_FIELDS)
    name, domain, questions = record.get("id"), record.get("domain"), record.get("questions")
    if isinstance(name, str) and name.strip() and not _ID.fullmatch(name):
        yield _fault("id not fit for a file name", name, "use up to 100 of A-Z a-z 0-9 . _ -, a letter or digit first")
    if isinstance(domain, str) and domain.strip() and domain not in DOMAINS:
        yield _fault("unknown domain", domain, f"use one of {', '.join(DOMAINS)}")
    if isinstance(questions, list):
        yield from _questions_faults(dict(enumerate(questions, 1)))


def _questions_faults(questions: Mapping[int, Any]) -> Iterator[str]:
    if not questions:
        yield _fault("no questions", [], "write at least one")
    for number, question in questions.items():
        yield from (f"question {number}: {fault}" for fault in _question_faults(question))
    texts = {number: question.get("text") for number, question in questions.items() if isinstance(question, dict)}
    yield from (fault for _, fault in _repeats("question", texts))


def _question_faults(question: Any) -> Iterator[str]:
    if not isinstance(question, dict):
        yield _fault("not a JSON object", question, f"write {{...}} with the fields {', '.join(_QUESTION_FIELDS)}")
        return
    yield from _field_faults(question, _QUESTION_FIELDS)
    options, answer = question.get("options"), question.get("answer")
    if isinstance(options, list):
        yield from _options_faults(dict(enumerate(options, 1)))
        if isinstance(answer, str) and answer.strip() and answer not in options:
            yield _fault("right option missing", answer, "repeat the text of one option in answer, letter by letter")


def _options_faults(options: Mapping[int, Any]) -> Iterator[str]:
    if len(options) < 2:
        yield _fault("fewer than 2 options", list(options.values()), "add wrong ones")
    for number, option in options.items():
        yield from _value_faults(f"option {number}", option, str)
    yield from (fault for _, fault in _repeats("option", options))


def _field_faults(record: Mapping[str, Any], fields: Mapping[str, type]) -> Iterator[str]:
    for name in {**fields, **record}:
        if name not in record:
            yield _fault("missing field", name, "add it")
        elif name not in fields:
            yield _fault("unknown field", name, f"remove it; the fields are {', '.join(fields)}")
        else:
            yield from _value_faults(name, record[name], fields[name])


def _value_faults(name: str, value: Any, kind: type) -> Iterator[str]:
    if not isinstance(value, kind):
        yield _fault(f"{name} of the wrong type", value, f"write a {'text' if kind is str else 'list'}")
    elif isinstance(value, str) and not value.strip():
        yield _fault(f"empty {name}", value, "write a text")
    elif isinstance(value, str) and _HALF_CHARACTER.search(value):
        yield _fault(f"{name} holds half a character", value, "write the whole character instead of one \\ud... escape")


def _repeats(what: str, texts: Mapping[int, Any]) -> Iterator[_Fault]:
    """A fault, with its number, for each text that is the same as an earlier one but for case and space."""
    seen: dict[str, int] = {}
    for number, text in texts.items():
        key = " ".join(text.casefold().split()) if isinstance(text, str) else ""
        if key and seen.setdefault(key, number) != number:
            yield number, _fault(f"{what} {number} repeats {what} {seen[key]}", text, "write another")


def _fault(what: str, value: Any, remedy: str) -> str:
    return f"{what}: {_SHORT.repr(value)}; {remedy}"


def _refuse(source: Traversable, faults: Iterable[_Fault]) -> None:
    if in_order := sorted(faults, key=lambda fault: fault[0]):
        raise NewsError("\n".join(f"{source}:{line}: {fault}" for line, fault in in_order))


def _item(record: Mapping[str, Any], line: int) -> NewsItem:
    questions = tuple(_question(q, f"{record['id']}/q{number}") for number, q in enumerate(record["questions"], 1))
    return NewsItem(id=record["id"], domain=record["domain"], text=record["text"], questions=questions, line=line)


def _question(record: Mapping[str, Any], name: str) -> Question:
    options = tuple(record["options"])
    return Question(id=name, text=record["text"], options=options, answer=options.index(record["answer"]))
