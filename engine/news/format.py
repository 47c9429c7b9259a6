"""The file format of news: the fields of each line, and a check that reports every fault with its file and line."""

import itertools
import json
import os
import re
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import IO, Any

from engine import UserError

# The domains of the shipped news. Any other name is allowed in a file of one's own.
DOMAINS = ("mathematics", "coding", "discoveries", "leaderboards", "events")

# What a question needs: a fact that the news states; its rule on a new case; one more fact or common knowledge; to
# rule out options.
KINDS = ("recall", "apply", "combine", "exclude")

NewsPath = str | Path | None  # None: the shipped news
# A file is read whole, and an item is short: whatever is larger is not news, and would take the machine's memory.
MAX_LINE_BYTES, MAX_FILE_BYTES = 1_000_000, 256_000_000

_ITEM_FIELDS = {"id": str, "domain": str, "text": str, "questions": list}
_ITEM_EXTRAS = {"statements": list, "task": dict}
_QUESTION_FIELDS = {"text": str, "options": list, "answer": str}
_QUESTION_EXTRAS = {"kind": str, "draft": bool}
_STAND_IN = {"text": "?", "options": ["a", "b"], "answer": "a"}  # replaces missing questions where they are optional
_DRAFT_THEM = "write at least one question, or let jobs/write_questions.py draft them"
_STATEMENT_FIELDS = {"true": str, "false": str}
_TASK_FIELDS = {"text": str, "answers": list}
_TYPE_NAMES: dict[type, str] = {str: "a text", list: "a list", dict: "a JSON object", bool: "true or false"}
# An id becomes part of file names: short, not hidden (".x"), no parent folder (".."), no command-line flag ("-x").
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_ID_REMEDY = "use 1 to 100 of the characters A-Z a-z 0-9 . _ - and begin with a letter or a digit"
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")  # JSON allows lone surrogates; tokenizers and UTF-8 do not
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80

_Fault = tuple[int, str]  # line number from 1, message


class NewsError(UserError):
    """News that cannot be used. The message has one line per fault: `file:line: what: value; what to do`."""


def read_records(path: NewsPath, questions_needed: bool = True) -> dict[int, dict[str, Any]]:
    """Reads the items of a file as JSON objects, by line number (from 1). Raises NewsError with all faults.

    If `questions_needed` is False, an item may have no questions.
    """
    records, faults = _parse_lines(_read_text(_locate(path)))
    for number, record in records.items():
        has_enough = questions_needed or record.get("questions")
        complete = record if has_enough else record | {"questions": [_STAND_IN]}
        faults += [(number, fault) for fault in _check_item(complete)]
    faults += _find_repeats("id in line", {number: record.get("id") for number, record in records.items()})
    refuse(path, faults)
    return records


def refuse(path: NewsPath, faults: Iterable[_Fault]) -> None:
    """Raises NewsError with the faults (line, message) in the order of their lines, if there are any."""
    if by_line := sorted(faults, key=lambda fault: fault[0]):
        raise NewsError("\n".join(f"{_locate(path)}:{line}: {fault}" for line, fault in by_line))


def _locate(path: NewsPath) -> Traversable:
    return files("engine.news") / "shipped" / "news.jsonl" if path is None else Path(path)


def _read_text(source: Traversable) -> str:
    try:
        return _read_bytes(source).decode("utf-8-sig")  # some editors put a byte order mark first
    except OSError as error:
        raise NewsError(f"{source}:1: cannot be read: {error.strerror}; check the path") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        byte = f"{error.object[error.start]:#x}"
        raise NewsError(f"{source}:{line}: not UTF-8: byte {byte}; save the file as UTF-8") from error


def _read_bytes(source: Traversable) -> bytes:
    """The whole file, read line by line and no further than its limits. Raises NewsError with all lines too long."""
    lines: list[bytes] = []
    faults: list[str] = []
    size = 0
    with source.open("rb") as file:
        for number in itertools.count(1):
            line = file.readline(MAX_LINE_BYTES + 1)
            size += len(line)
            if size > MAX_FILE_BYTES:
                n_bytes = max(size, os.fstat(file.fileno()).st_size)
                remedy = f"at most {MAX_FILE_BYTES} are read: split it"
                raise NewsError("\n".join([*faults, f"{source}:{number}: the file has {n_bytes} bytes; {remedy}"]))
            if not line:
                break
            if len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
                size += (skipped := _skip_line(file))
                length = len(line) + skipped
                faults.append(f"{source}:{number}: the line has {length} bytes; shorten it to {MAX_LINE_BYTES}")
            else:
                lines.append(line)
    if faults:
        raise NewsError("\n".join(faults))
    return b"".join(lines)


def _skip_line(file: IO[bytes]) -> int:
    """Goes to the end of a line; gives its bytes on the way, none of which are kept. A device may have no end."""
    size = 0
    while size < MAX_FILE_BYTES and (part := file.readline(MAX_LINE_BYTES)):
        size += len(part)
        if part.endswith(b"\n"):
            break
    return size


def _parse_lines(text: str) -> tuple[dict[int, dict[str, Any]], list[_Fault]]:
    """The JSON objects of a text by line number, and a fault for each line that is not an object."""
    records: dict[int, dict[str, Any]] = {}
    faults: list[_Fault] = []
    if not text.strip():
        faults.append((1, _describe_fault("no news in the file", text, "write one item per line")))
    for number, line in enumerate(text.split("\n"), 1):  # splitlines would also split at U+2028, which JSON allows
        if not line.strip():
            continue
        try:
            records[number] = {**json.loads(line)}  # raises TypeError if the value is not an object
        except (ValueError, TypeError, RecursionError) as error:
            faults.append((number, _describe_fault("not a JSON object", line, f"write one {{...}} per line ({error})")))
    return records, faults


def _check_item(record: Mapping[str, Any]) -> Iterator[str]:
    yield from _check_fields(record, _ITEM_FIELDS, _ITEM_EXTRAS)
    name, domain = record.get("id"), record.get("domain")
    if isinstance(name, str) and name.strip() and not _ID.fullmatch(name):
        yield _describe_fault("id cannot be part of a file name", name, _ID_REMEDY)
    if isinstance(domain, str) and domain.strip() and (fault := check_domain(domain)):
        yield fault
    if isinstance(questions := record.get("questions"), list):
        yield from _check_questions(dict(enumerate(questions, 1)))
    if isinstance(pairs := record.get("statements"), list):
        yield from (f"statements {n}: {fault}" for n, pair in enumerate(pairs, 1) for fault in _check_pair(pair))
    if isinstance(task := record.get("task"), dict):
        yield from (f"task: {fault}" for fault in _check_task(task))


def check_domain(name: str) -> str | None:
    """Why a text cannot name a domain, or None: a domain, too, becomes part of file names."""
    return None if _ID.fullmatch(name) else _describe_fault("domain cannot be part of a file name", name, _ID_REMEDY)


def _check_pair(pair: Any) -> Iterator[str]:
    if not isinstance(pair, dict):
        yield _describe_fault("not a JSON object", pair, _list_fields(_STATEMENT_FIELDS))
        return
    yield from _check_fields(pair, _STATEMENT_FIELDS)
    if pair.keys() >= _STATEMENT_FIELDS.keys() and pair["true"] == pair["false"]:
        remedy = "change one: only true follows from the news"
        yield _describe_fault("true and false are the same", pair["true"], remedy)


def _check_task(task: Mapping[str, Any]) -> Iterator[str]:
    yield from _check_fields(task, _TASK_FIELDS)
    if isinstance(answers := task.get("answers"), list):
        if not answers:
            yield _describe_fault("no answers", [], "write every accepted form of the answer")
        for number, answer in enumerate(answers, 1):
            yield from _check_value(f"answer {number}", answer, str)


def _check_questions(questions: Mapping[int, Any]) -> Iterator[str]:
    if not questions:
        yield _describe_fault("no questions", [], _DRAFT_THEM)
    for number, question in questions.items():
        yield from (f"question {number}: {fault}" for fault in _check_question(question))
    texts = {number: question.get("text") for number, question in questions.items() if isinstance(question, dict)}
    yield from (fault for _, fault in _find_repeats("question", texts))


def _check_question(question: Any) -> Iterator[str]:
    if not isinstance(question, dict):
        yield _describe_fault("not a JSON object", question, _list_fields(_QUESTION_FIELDS))
        return
    yield from _check_fields(question, _QUESTION_FIELDS, _QUESTION_EXTRAS)
    if isinstance(kind := question.get("kind"), str) and kind not in KINDS:
        yield _describe_fault("unknown kind", kind, f"use one of {', '.join(KINDS)}, or remove the field")
    options, answer = question.get("options"), question.get("answer")
    if isinstance(options, list):
        yield from _check_options(dict(enumerate(options, 1)))
        if isinstance(answer, str) and answer.strip() and answer not in options:
            yield _describe_fault("answer is not one of the options", answer, "copy the text of the right option")


def _check_options(options: Mapping[int, Any]) -> Iterator[str]:
    if len(options) < 2:
        yield _describe_fault("fewer than 2 options", list(options.values()), "add wrong options")
    for number, option in options.items():
        yield from _check_value(f"option {number}", option, str)
    yield from (fault for _, fault in _find_repeats("option", options))


def _check_fields(
    record: Mapping[str, Any], fields: Mapping[str, type], extras: Mapping[str, type] | None = None
) -> Iterator[str]:
    types = {**fields, **(extras or {})}
    for name in {**fields, **record}:
        if name not in record:
            yield _describe_fault("missing field", name, _DRAFT_THEM if name == "questions" else "add it")
        elif name not in types:
            yield _describe_fault("unknown field", name, f"remove it; the fields are {', '.join(types)}")
        else:
            yield from _check_value(name, record[name], types[name])


def _check_value(name: str, value: Any, expected: type) -> Iterator[str]:
    if not isinstance(value, expected):
        yield _describe_fault(f"{name} has the wrong type", value, f"write {_TYPE_NAMES[expected]}")
    elif isinstance(value, str) and not value.strip():
        yield _describe_fault(f"{name} is empty", value, "write a text")
    elif isinstance(value, str) and _HALF_CHARACTER.search(value):
        remedy = "write the whole character, not one \\ud... escape"
        yield _describe_fault(f"{name} contains half a character", value, remedy)


def _find_repeats(what: str, texts: Mapping[int, Any]) -> Iterator[_Fault]:
    """A fault, with its number, for each text that repeats an earlier one. Case and white space do not count."""
    first_numbers: dict[str, int] = {}
    for number, text in texts.items():
        key = " ".join(text.casefold().split()) if isinstance(text, str) else ""
        if key and (first := first_numbers.setdefault(key, number)) != number:
            yield number, _describe_fault(f"{what} {number} repeats {what} {first}", text, "change one of them")


def _list_fields(fields: Mapping[str, type]) -> str:
    return f"write {{...}} with the fields {', '.join(fields)}"


def _describe_fault(what: str, value: Any, remedy: str) -> str:
    return f"{what}: {_SHORT.repr(value)}; {remedy}"
