"""Drafts multiple-choice questions for news items that have none. A model writes them, and a person has to check them.

    python jobs/write_questions.py my.jsonl --out my-drafts.jsonl --model qwen2.5-coder-1.5b

Each draft has `"draft": true` in the file, and a study with drafts is refused.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from engine.cluster import reach
from engine.cluster.machines import Cluster
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

QuestionRecord = dict[str, Any]  # a question as a news file has it
Drafts = tuple[dict[str, list[QuestionRecord]], Counter[str]]  # drafts by the item's id; dropped questions per reason


def parse_questions(text: str, news: str) -> tuple[list[QuestionRecord], Counter[str]]:
    """Parses the questions of a completion about a news item. Gives the good ones, and counts the others per reason."""
    questions: list[QuestionRecord] = []
    dropped: Counter[str] = Counter()
    starts = [m.start() for m in _QUESTION.finditer(text)]
    for start, end in pairwise([*starts, len(text)]):
        question_or_reason = parse_question(text[start:end], news)
        if isinstance(question_or_reason, str):
            dropped[question_or_reason] += 1
        else:
            questions.append(question_or_reason)
    return questions, dropped


def parse_question(block: str, news: str) -> QuestionRecord | str:
    """Parses one question with its options and answer. Gives the reason if it has to be dropped."""
    question, answer = _QUESTION.search(block), _ANSWER.search(block)
    options = {m["letter"]: parsing.tidy(m["text"]) for m in _OPTION.finditer(block)}
    if len({o.casefold() for o in options.values()}) != 4:
        return "not four different options"
    if not question or not answer:
        return "no right option named"
    text = parsing.tidy(question["text"])
    if fault := parsing.find_fault(text, news):
        return fault
    return {"text": text, "options": list(options.values()), "answer": options[answer["letter"]], "draft": True}


def drop_near_duplicates(questions: Sequence[QuestionRecord]) -> list[QuestionRecord]:
    """Drops each question that nearly equals an earlier one."""
    different: list[QuestionRecord] = []
    for question in questions:
        if not any(protocols.are_near_duplicates(question["text"], other["text"]) for other in different):
            different.append(question)
    return different


def write(model: str, texts: Mapping[str, str], n: int, precision: Precision, cluster: Cluster) -> Drafts:
    """Writes up to n drafts per text (texts and drafts by item id), and counts dropped questions per reason.

    Ray has to be running.
    """
    serving = placement.place_serving(catalogue.find(model).architecture, precision, cluster)
    reach.require(serving, f"vLLM with {model}")
    weights.pull(catalogue.find(model))
    with progress.shown(f"drafting with {model}", len(texts)):
        drafts: Drafts = run_on_worker(draft_all, serving, model, texts, n, serving, precision)
    return drafts


def draft_all(*args: Any) -> Drafts:
    """Runs in a worker. vLLM is imported only there."""
    from engine.authoring import drafter

    return drafter.draft_all(*args)
