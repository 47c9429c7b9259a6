"""Drafts of multiple-choice questions for news that has none, written by a model, to be checked by a person.

    python jobs/write_questions.py my.jsonl --model qwen2.5-coder-1.5b

A draft is marked as one in the file, and a study that would ask it is refused.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from engine.cluster.machines import Machine
from engine.inference.worker import run_on_worker
from engine.models import catalogue, weights
from engine.monitor import progress
from engine.planning import placement
from engine.selfplay import parsing, protocols
from engine.study import Precision

ASK = (
    "Write {n} multiple-choice questions that show whether a reader has understood the news above and can use it. "
    "Ask for what follows from it. Name in each question who or what it is about, so that it can be answered without "
    "the news at hand, and never refer to “the text”. Each question has four short options that are alike in form; "
    "exactly one is right. Use this form:\n\nQuestion: …\nA) …\nB) …\nC) …\nD) …\nAnswer: B"
)

_QUESTION = re.compile(r"^\W*(?:question)?\s*\d*\s*[:.)]\W*(?P<text>[^\n]*\?)\W*$", re.IGNORECASE | re.MULTILINE)
_OPTION = re.compile(r"^\W*(?P<letter>[A-D])\s*[).:][\s*]*(?P<text>\S[^\n]*)$", re.MULTILINE)
_ANSWER = re.compile(r"^\W*(?:right |correct )?answer\W*(?P<letter>(?-i:[A-D]))\b", re.IGNORECASE | re.MULTILINE)

Question = dict[str, Any]  # as it stands in a news file
Drafts = tuple[dict[str, list[Question]], Counter[str]]


def parse(text: str, news: str) -> tuple[list[Question], Counter[str]]:
    """The questions of a completion about some news, and how many were dropped for which reason."""
    kept: list[Question] = []
    dropped: Counter[str] = Counter()
    starts = [m.start() for m in _QUESTION.finditer(text)]
    for start, end in pairwise([*starts, len(text)]):
        question = read(text[start:end], news)
        if isinstance(question, str):
            dropped[question] += 1
        else:
            kept.append(question)
    return kept, dropped


def read(block: str, news: str) -> Question | str:
    """One question with its options and answer, or why it is no good."""
    asked, answer = _QUESTION.search(block), _ANSWER.search(block)
    options = {m["letter"]: parsing.tidy(m["text"]) for m in _OPTION.finditer(block)}
    if len(options) != 4 or len({o.casefold() for o in options.values()}) != 4:
        return "not four different options"
    if not asked or not answer:
        return "no right option named"
    text = parsing.tidy(asked["text"])
    if fault := parsing.fault(text, news):
        return fault
    right = options[answer["letter"]]
    return {"text": text, "options": list(options.values()), "answer": right, "draft": True}


def distinct(questions: Sequence[Question]) -> list[Question]:
    """Without those that are near duplicates of an earlier one."""
    kept: list[Question] = []
    for question in questions:
        if not any(protocols.alike(question["text"], other["text"]) for other in kept):
            kept.append(question)
    return kept


def write(model: str, texts: Mapping[str, str], n: int, precision: Precision, machine: Machine) -> Drafts:
    """Up to n drafts for each text, by id, and what was dropped, by reason. Ray has to be running."""
    serving = placement.place_serving(catalogue.find(model).architecture, precision, machine)
    weights.pull(catalogue.find(model))
    with progress.shown(f"drafting with {model}", len(texts)):
        drafts: Drafts = run_on_worker(draft_all, serving, model, texts, n, serving, precision)
    return drafts


def draft_all(*args: Any) -> Drafts:
    """In a worker, where alone the engine's code is imported."""
    from engine.authoring import drafter

    return drafter.draft_all(*args)
