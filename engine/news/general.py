"""Questions of general ability. They show whether fine-tuning on news has harmed the model.

They ship with the engine (`shipped/general.jsonl`): common knowledge, arithmetic, and instructions that exactly one
option follows. They are scored like the questions about news: by the likelihood of each option.
"""

import json
from functools import cache
from importlib.resources import files

from engine.news.items import Question, parse_question


@cache
def load() -> tuple[Question, ...]:
    """Reads the questions in the order of the file. Their kinds: knowledge, arithmetic, instructions."""
    lines = (files("engine.news") / "shipped" / "general.jsonl").read_text(encoding="utf-8").splitlines()
    return tuple(parse_question(record, record["id"]) for record in map(json.loads, lines))
