"""Drafts of multiple-choice questions for news that has none, written by a model, to be checked by a person.

    python jobs/write_questions.py my.jsonl --model qwen2.5-coder-1.5b

A draft is marked as one in the file, and a study that would ask it is refused.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from engine import chat, cost, inference, models, parsing, plan, progress, protocols, weights
from engine.cost import Device, Profile
from engine.study import Precision, Training

ASK = (
    "Write {n} multiple-choice questions that show whether a reader has understood the news above and can use it. "
    "Ask for what follows from it. Name in each question who or what it is about, so that it can be answered without "
    "the news at hand, and never refer to “the text”. Each question has four short options that are alike in form; "
    "exactly one is right. Use this form:\n\nQuestion: …\nA) …\nB) …\nC) …\nD) …\nAnswer: B"
)
ROUNDS = 4  # of asking again for items that have too few
MAX_CONTEXT, MAX_TOKENS, TEMPERATURE = 4096, 700, 0.8

_QUESTION = re.compile(r"^\W*(?:question)?\s*\d*\s*[:.)]\W*(?P<text>[^\n]*\?)\W*$", re.IGNORECASE | re.MULTILINE)
_OPTION = re.compile(r"^\W*(?P<letter>[A-D])\s*[).:][\s*]*(?P<text>\S[^\n]*)$", re.MULTILINE)
_ANSWER = re.compile(r"^\W*(?:right |correct )?answer\W*(?P<letter>(?-i:[A-D]))\b", re.IGNORECASE | re.MULTILINE)

Question = dict[str, Any]  # as it stands in a news file


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


def write(
    model: str, texts: Mapping[str, str], n: int, precision: Precision, device: Device | None
) -> tuple[dict[str, list[Question]], Counter[str]]:
    """Up to n drafts for each text, by id, and what was dropped. Ray has to be running."""
    profile = cost.profile(models.find(model).architecture, Training(), precision, plan.this_machine(device))
    weights.pull(models.find(model))
    with progress.shown(f"drafting with {model}", len(texts)):
        found: tuple[dict[str, list[Question]], Counter[str]] = inference.on_worker(
            answer, profile, model, texts, n, profile, precision
        )
    return found


def answer(
    model: str, texts: Mapping[str, str], n: int, profile: Profile, precision: Precision
) -> tuple[dict[str, list[Question]], Counter[str]]:
    """Asks for drafts, again for those with too few, each time with another seed. Runs in a worker."""
    found = models.find(model)
    limit = min(MAX_CONTEXT, found.architecture.max_context)
    llm = inference.start(str(weights.pull(found)), profile, precision, limit)
    drafts: dict[str, list[Question]] = {name: [] for name in texts}
    dropped: Counter[str] = Counter()
    for seed in range(ROUNDS):
        short = [name for name in texts if len(drafts[name]) < n]
        for name, output in inference.run(llm, [request(llm, name, texts[name], n, seed) for name in short]):
            kept, bad = parse(output.outputs[0].text, texts[name])
            drafts[name] = distinct([*drafts[name], *kept])[:n]
            dropped += bad
            progress.report(done=int(len(drafts[name]) == n), tokens=len(output.outputs[0].token_ids))
    return drafts, dropped


def request(llm: Any, name: str, text: str, n: int, seed: int) -> inference.Request:
    """One completion about one text."""
    from vllm import SamplingParams

    ids = chat.prompt_ids(llm.get_tokenizer(), chat.with_news(text, ASK.format(n=n)))
    params = SamplingParams(temperature=TEMPERATURE, max_tokens=MAX_TOKENS, seed=seed)
    return inference.Request(tag=name, ids=ids, params=params)
