"""What untrained models make of news: the measurement that tells whether questions need the news and can be answered
with it.

    python jobs/check_news.py my.jsonl

Everything that a study asks is asked closed-book and in context; and the options are scored after a prompt that holds
no question at all. What a model made of an item in one form is kept under a fingerprint of all that bears on it, so
that a run that ends early goes on where it was, and a mended item alone is asked again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from engine import asking, chat, cost, inference, models, progress, study, weights
from engine.asking import Ask, Asked
from engine.cost import Machine, Profile
from engine.news import NewsItem
from engine.store import Store
from engine.study import Form, Precision, Training

MAX_CONTEXT = 2048  # tokens
OPTIONS_ALONE = "options_alone"
RETRIES = 2  # of a worker that dies


def measure(
    model: str, items: Sequence[NewsItem], forms: Sequence[Form], precision: Precision, store: Store, machine: Machine
) -> pl.DataFrame:
    """The model's rows of the question table (conditions closed_book, icl, options_alone); from the store if there.

    Ray has to be running.
    """
    units = [Unit(model=model, item=item, form=form, precision=precision) for form in forms for item in items]
    if missing := [unit for unit in units if not store.exists(unit.path)]:
        profile = cost.profile(models.find(model).architecture, Training(), precision, machine)
        weights.pull(models.find(model))
        with progress.shown(f"asking {study.slug(model)}", len(missing)):
            inference.on_worker(answer, profile, missing, profile, store, retries=RETRIES)
    return pl.concat(store.read_table(unit.path) for unit in units)


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """What is asked and kept at a time: one item in one form."""

    model: str
    item: NewsItem
    form: Form
    precision: Precision

    @property
    def path(self) -> str:
        """Where its rows lie, by all that bears on them."""
        mark = study.fingerprint(self.identity)[:12]
        return f"{study.slug(self.model)}/{self.form}/{self.item.id}-{mark}.parquet"

    @property
    def identity(self) -> dict[str, Any]:
        return {
            "model": study.revision(self.model),
            "precision": self.precision,
            "asking": chat.WORDINGS,
            "item": [self.item.text, study.what_is_asked(self.item, (self.form,))],
        }


def answer(units: Sequence[Unit], profile: Profile, store: Store) -> None:
    """Asks the model what the store lacks; each unit is written as it comes. Runs in a worker."""
    from engine import evaluate, scoring

    found, precision = models.find(units[0].model), units[0].precision
    limit = min(MAX_CONTEXT, found.architecture.max_context)
    llm = evaluate.engine(str(weights.pull(found)), profile, precision, limit, None)
    missing = {unit.path: unit for unit in units if not store.exists(unit.path)}
    asked = {path: list(questions(llm.get_tokenizer(), unit.item, unit.form)) for path, unit in missing.items()}
    work = [(evaluate.Answering(name=path), [one for _, one in pairs]) for path, pairs in asked.items()]
    for path, answers in evaluate.evaluate(llm, work):
        rows = [{**row, "condition": condition} for row, (condition, _) in zip(answers, asked[path], strict=True)]
        store.write_table(path, pl.DataFrame(rows, schema=scoring.SCHEMA))


def questions(tokenizer: Any, item: NewsItem, form: Form) -> Iterator[tuple[str, Ask]]:
    """All that is asked about an item in one form, each with its condition."""
    for condition in asking.CONDITIONS:
        every = asking.ask_all(tokenizer, item, condition, (form,))
        yield from ((condition, asked) for asked in every if asked.form == form)
    if form == "choice":
        yield from ((OPTIONS_ALONE, options_alone(tokenizer, item, n)) for n in range(len(item.questions)))


def options_alone(tokenizer: Any, item: NewsItem, n: int) -> Asked:
    """The options of the n-th question after a prompt without that question."""
    hidden = replace(item.questions[n], text="")
    return asking.ask(tokenizer, item, hidden, "closed_book", letters=False)
