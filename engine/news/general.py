"""Questions of general ability, which tell whether fine-tuning on news has harmed the model.

They ship with the engine (`shipped/general.jsonl`): common knowledge, arithmetic, and instructions of which exactly one
option follows the wording. Like the questions about news they are scored by the likelihood of each option.
"""

import json
from functools import cache
from importlib.resources import files
from typing import Any

from engine.news.items import Question


@cache
def load() -> tuple[Question, ...]:
    """The questions in the order of the file; kinds: knowledge, arithmetic, instructions."""
    lines = (files("engine.news") / "shipped" / "general.jsonl").read_text(encoding="utf-8").splitlines()
    return tuple(_question(record) for record in map(json.loads, lines))


def _question(record: dict[str, Any]) -> Question:
    """A line of the file as a question."""
    options = tuple(record["options"])
    answer = options.index(record["answer"])
    return Question(id=record["id"], text=record["text"], options=options, answer=answer, kind=record["kind"])
