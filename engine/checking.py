"""What untrained models make of news: the measurement that tells whether questions need the news and can be answered
with it.

    python jobs/check_news.py my.jsonl

Everything that a study asks is asked closed-book and in context; and the options are scored after a prompt that holds
no question at all. Each model's rows are kept under a fingerprint of all that bears on them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from engine import asking, chat, cost, inference, models, progress, study, weights
from engine.asking import Ask, Asked
from engine.cost import Machine, Profile
from engine.news import NewsItem
from engine.store import Store
from engine.study import Form, Precision, Training

MAX_CONTEXT = 2048  # tokens
FORMS: tuple[Form, ...] = ("choice", "statement", "task")
OPTIONS_ALONE = "options_alone"


def measure(
    model: str, items: Sequence[NewsItem], precision: Precision, store: Store, machine: Machine
) -> pl.DataFrame:
    """The model's rows of the question table (conditions closed_book, icl, options_alone); from the store if there.

    Ray has to be running.
    """
    path = f"{study.slug(model)}-{study.fingerprint(identity(model, items, precision))[:12]}.parquet"
    if not store.exists(path):
        profile = cost.profile(models.find(model).architecture, Training(), precision, machine)
        weights.pull(models.find(model))
        with progress.shown(f"asking {study.slug(model)}", len(items)):
            store.write_table(path, inference.on_worker(answer, profile, model, items, profile, precision))
    return store.read_table(path)


def identity(model: str, items: Sequence[NewsItem], precision: Precision) -> dict[str, Any]:
    """All that bears on a model's rows."""
    return {
        "model": study.revision(model),
        "precision": precision,
        "asking": {"with_news": chat.WITH_NEWS, "nothing": chat.ASK_NOTHING, "statement": chat.ASK_STATEMENT},
        "items": {item.id: [item.text, study.what_is_asked(item, FORMS)] for item in items},
    }


def answer(model: str, items: Sequence[NewsItem], profile: Profile, precision: Precision) -> pl.DataFrame:
    """Asks the model about all items, some at a time, on an engine of its own. Runs in a worker."""
    from engine import evaluate, scoring

    found = models.find(model)
    limit = min(MAX_CONTEXT, found.architecture.max_context)
    llm = evaluate.engine(str(weights.pull(found)), profile, precision, limit, None)
    asked = {item.id: list(questions(llm.get_tokenizer(), item)) for item in items}
    work = [(evaluate.Answering(name=item), [one for _, one in pairs]) for item, pairs in asked.items()]
    rows: list[dict[str, Any]] = []
    for item, answers in evaluate.evaluate(llm, work):
        rows += [{**row, "condition": condition} for row, (condition, _) in zip(answers, asked[item], strict=True)]
    return pl.DataFrame(rows, schema=scoring.SCHEMA)


def questions(tokenizer: Any, item: NewsItem) -> Iterator[tuple[str, Ask]]:
    """All that is asked about an item, each with its condition."""
    for condition in asking.CONDITIONS:
        yield from ((condition, asked) for asked in asking.ask_all(tokenizer, item, condition, FORMS))
    yield from ((OPTIONS_ALONE, options_alone(tokenizer, item, n)) for n in range(len(item.questions)))


def options_alone(tokenizer: Any, item: NewsItem, n: int) -> Asked:
    """The options of the n-th question after a prompt without that question."""
    hidden = replace(item.questions[n], text=chat.ASK_NOTHING)
    return asking.ask(tokenizer, item, hidden, "closed_book", letters=False)
