"""What untrained models make of news: the measurement that tells whether questions need the news and can be answered
with it.

    python jobs/check_news.py my.jsonl

Everything that a study asks is asked closed-book and in context; and the options are scored after a prompt that holds
no question at all. What a model made of an item is kept under a fingerprint of all that bears on it, so that a run
that ends early goes on where it was, and a mended item alone is asked again.
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
RETRIES = 2  # of a worker that dies


def measure(
    model: str, items: Sequence[NewsItem], precision: Precision, store: Store, machine: Machine
) -> pl.DataFrame:
    """The model's rows of the question table (conditions closed_book, icl, options_alone); from the store if there.

    Ray has to be running.
    """
    if missing := unasked(model, items, precision, store):
        profile = cost.profile(models.find(model).architecture, Training(), precision, machine)
        weights.pull(models.find(model))
        with progress.shown(f"asking {study.slug(model)}", len(missing)):
            inference.on_worker(answer, profile, model, missing, profile, precision, store, retries=RETRIES)
    return pl.concat(store.read_table(path(model, item, precision)) for item in items)


def path(model: str, item: NewsItem, precision: Precision) -> str:
    """Where an item's rows lie."""
    return f"{study.slug(model)}/{item.id}-{study.fingerprint(identity(model, item, precision))[:12]}.parquet"


def unasked(model: str, items: Sequence[NewsItem], precision: Precision, store: Store) -> list[NewsItem]:
    """The items whose rows are not in the store."""
    return [item for item in items if not store.exists(path(model, item, precision))]


def identity(model: str, item: NewsItem, precision: Precision) -> dict[str, Any]:
    """All that bears on a model's rows of an item."""
    return {
        "model": study.revision(model),
        "precision": precision,
        "asking": {"with_news": chat.WITH_NEWS, "nothing": chat.ASK_NOTHING, "statement": chat.ASK_STATEMENT},
        "item": [item.text, study.what_is_asked(item, FORMS)],
    }


def answer(model: str, items: Sequence[NewsItem], profile: Profile, precision: Precision, store: Store) -> None:
    """Asks the model about the items that the store lacks; each is written as it comes. Runs in a worker."""
    from engine import evaluate, scoring

    found = models.find(model)
    limit = min(MAX_CONTEXT, found.architecture.max_context)
    llm = evaluate.engine(str(weights.pull(found)), profile, precision, limit, None)
    by_id = {item.id: item for item in unasked(model, items, precision, store)}
    asked = {name: list(questions(llm.get_tokenizer(), item)) for name, item in by_id.items()}
    work = [(evaluate.Answering(name=name), [one for _, one in pairs]) for name, pairs in asked.items()]
    for name, answers in evaluate.evaluate(llm, work):
        rows = [{**row, "condition": condition} for row, (condition, _) in zip(answers, asked[name], strict=True)]
        store.write_table(path(model, by_id[name], precision), pl.DataFrame(rows, schema=scoring.SCHEMA))


def questions(tokenizer: Any, item: NewsItem) -> Iterator[tuple[str, Ask]]:
    """All that is asked about an item, each with its condition."""
    for condition in asking.CONDITIONS:
        yield from ((condition, asked) for asked in asking.ask_all(tokenizer, item, condition, FORMS))
    yield from ((OPTIONS_ALONE, options_alone(tokenizer, item, n)) for n in range(len(item.questions)))


def options_alone(tokenizer: Any, item: NewsItem, n: int) -> Asked:
    """The options of the n-th question after a prompt without that question."""
    hidden = replace(item.questions[n], text=chat.ASK_NOTHING)
    return asking.ask(tokenizer, item, hidden, "closed_book", letters=False)
