"""The file format of news: what a line may hold, and every fault that it can have, by file and line."""

import json
import re
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from engine import UserError

DOMAINS = ("mathematics", "coding", "discoveries", "leaderboards", "events")

# What a question needs: a stated fact; the rule on a new case; a second fact or common knowledge; ruling out.
KINDS = ("recall", "apply", "combine", "exclude")

NewsPath = str | Path | None  # None: the shipped news

_ITEM_FIELDS = {"id": str, "domain": str, "text": str, "questions": list}
_ITEM_EXTRAS = {"statements": list, "task": dict}
_QUESTION_FIELDS = {"text": str, "options": list, "answer": str}
_QUESTION_EXTRAS = {"kind": str, "draft": bool}
_STAND_IN = {"text": "?", "options": ["a", "b"], "answer": "a"}  # for the questions of an item that may have none
_STATEMENT_FIELDS = {"true": str, "false": str}
_TASK_FIELDS = {"text": str, "answers": list}
_KIND_NAMES: dict[type, str] = {str: "text", list: "list", dict: "JSON object", bool: "true or false"}
# An id becomes part of file names: short, nothing hidden (".x"), no parent folder (".."), no command-line flag ("-x").
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")  # JSON allows lone surrogates; tokenizers and UTF-8 do not
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80

_Fault = tuple[int, str]  # line number from 1, message


class NewsError(UserError):
    """News that cannot be used. The message has one fault a line: `file:line: what: value; what to do`."""


def read_records(path: NewsPath, questions_needed: bool = True) -> dict[int, dict[str, Any]]:
    """The items of a file as they stand there, by line number (from 1). Raises NewsError with all faults.

    Unless `questions_needed`, an item may have none.
    """
    records, faults = _parse(_read(_source(path)))
    for number, record in records.items():
        whole = record if questions_needed or record.get("questions") else record | {"questions": [_STAND_IN]}
        faults += [(number, fault) for fault in _item_faults(whole)]
    faults += _repeats("id in line", {number: record.get("id") for number, record in records.items()})
    refuse(path, faults)
    return records


def refuse(path: NewsPath, faults: Iterable[_Fault]) -> None:
    """Raises NewsError with the faults (line, message) in the order of their lines, if there are any."""
    if in_order := sorted(faults, key=lambda fault: fault[0]):
        raise NewsError("\n".join(f"{_source(path)}:{line}: {fault}" for line, fault in in_order))


def _source(path: NewsPath) -> Traversable:
    return files("engine.news") / "shipped" / "news.jsonl" if path is None else Path(path)


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
    yield from _field_faults(record, _ITEM_FIELDS, _ITEM_EXTRAS)
    name, domain, questions = record.get("id"), record.get("domain"), record.get("questions")
    if isinstance(name, str) and name.strip() and not _ID.fullmatch(name):
        yield _fault("id not fit for a file name", name, "use up to 100 of A-Z a-z 0-9 . _ -, a letter or digit first")
    if isinstance(domain, str) and domain.strip() and domain not in DOMAINS:
        yield _fault("unknown domain", domain, f"use one of {', '.join(DOMAINS)}")
    if isinstance(questions, list):
        yield from _questions_faults(dict(enumerate(questions, 1)))
    if isinstance(pairs := record.get("statements"), list):
        yield from (f"statements {n}: {fault}" for n, pair in enumerate(pairs, 1) for fault in _statements_faults(pair))
    if isinstance(task := record.get("task"), dict):
        yield from (f"task: {fault}" for fault in _task_faults(task))


def _statements_faults(pair: Any) -> Iterator[str]:
    if not isinstance(pair, dict):
        yield _fault("not a JSON object", pair, f"write {{...}} with the fields {', '.join(_STATEMENT_FIELDS)}")
        return
    yield from _field_faults(pair, _STATEMENT_FIELDS)
    if len(pair) > 1 and pair.get("true") == pair.get("false"):
        yield _fault("true and false are the same", pair["true"], "let them differ in what the news decides")


def _task_faults(task: Mapping[str, Any]) -> Iterator[str]:
    yield from _field_faults(task, _TASK_FIELDS)
    if isinstance(answers := task.get("answers"), list):
        if not answers:
            yield _fault("no answers", [], "write all forms that are accepted")
        for number, answer in enumerate(answers, 1):
            yield from _value_faults(f"answer {number}", answer, str)


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
    yield from _field_faults(question, _QUESTION_FIELDS, _QUESTION_EXTRAS)
    if isinstance(kind := question.get("kind"), str) and kind not in KINDS:
        yield _fault("unknown kind", kind, f"use one of {', '.join(KINDS)}, or leave it out")
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


def _field_faults(
    record: Mapping[str, Any], fields: Mapping[str, type], extras: Mapping[str, type] | None = None
) -> Iterator[str]:
    known = {**fields, **(extras or {})}
    for name in {**fields, **record}:
        if name not in record:
            yield _fault("missing field", name, "add it")
        elif name not in known:
            yield _fault("unknown field", name, f"remove it; the fields are {', '.join(known)}")
        else:
            yield from _value_faults(name, record[name], known[name])


def _value_faults(name: str, value: Any, kind: type) -> Iterator[str]:
    if not isinstance(value, kind):
        yield _fault(f"{name} of the wrong type", value, f"write a {_KIND_NAMES[kind]}")
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
