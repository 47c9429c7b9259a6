"""Asks untrained models the questions about news: do the questions need the news, and can they be answered with it?

    python jobs/check_news.py my.jsonl

A model answers all questions closed-book and with the news in context. It also scores the options of each choice
question without the question. The answers about one item in one form are one file, named by a fingerprint of all that
affects them. A run that was stopped therefore continues where it stopped, and only items that changed are asked again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from engine.cluster import reach
from engine.cluster.machines import Cluster, ServingPlacement
from engine.evaluation import marks, questions
from engine.evaluation.questions import CHOICE, FORMS, Asked
from engine.inference import chat, settings
from engine.inference.worker import run_on_worker
from engine.models import catalogue, weights
from engine.monitor import progress
from engine.news.items import NewsItem
from engine.planning import identity, placement
from engine.storage.fingerprint import fingerprint
from engine.storage.store import Store
from engine.study import Precision, slug

OPTIONS_ALONE = "options_alone"
RETRIES = 2  # if a worker dies


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """One item in one form: its answers are one file."""

    model: str
    item: NewsItem
    form: str
    precision: Precision

    @property
    def path(self) -> str:
        """The file of its rows, named by a fingerprint of all that affects them."""
        identity_fields = {
            "model": identity.revision(self.model),
            "precision": self.precision,
            "asking": chat.WORDINGS,
            "item": [self.item.text, questions.identify_item(self.form, self.item)],
        }
        return f"{slug(self.model)}/{self.form}/{self.item.id}-{fingerprint(identity_fields)[:12]}.parquet"


def measure(
    model: str, items: Sequence[NewsItem], forms: Sequence[str], precision: Precision, store: Store, cluster: Cluster
) -> pl.DataFrame:
    """Gives the model's rows of the question table, for the conditions closed_book, icl and options_alone.

    Asks the model only for rows that the store does not have. Ray has to be running.
    """
    units = [Unit(model=model, item=item, form=form, precision=precision) for form in forms for item in items]
    if missing := [unit for unit in units if not store.exists(unit.path)]:
        serving = placement.place_serving(catalogue.find(model).architecture, precision, cluster)
        reach.require(serving, f"vLLM with {model}")
        weights.pull(catalogue.find(model))
        with progress.shown(f"asking {slug(model)}", len(missing)):
            run_on_worker(answer_units, serving, missing, serving, store, retries=RETRIES)
    return pl.concat(store.read_table(unit.path) for unit in units)


def answer_units(units: Sequence[Unit], serving: ServingPlacement, store: Store) -> None:
    """Asks the model for the units that the store does not have, and writes each unit once it is complete.

    Runs in a worker.
    """
    from engine.evaluation import likelihood

    model, precision = catalogue.find(units[0].model), units[0].precision
    limit = min(settings.MAX_CONTEXT, model.architecture.max_context)
    llm = likelihood.start(str(weights.pull(model)), serving, precision, limit, None)
    missing = {unit.path: unit for unit in units if not store.exists(unit.path)}
    work = [
        (likelihood.Answerer(name=path), list(ask_unit(llm.get_tokenizer(), unit))) for path, unit in missing.items()
    ]
    for group in likelihood.answer_all(llm, work):
        for path, rows in group.items():
            store.write_table(path, marks.table(rows))


def ask_unit(tokenizer: Any, unit: Unit) -> Iterator[Asked]:
    """Yields all prompts about an item in one form; for choice questions also the options without the question."""
    form = FORMS[unit.form]
    for condition in questions.CONDITIONS:
        yield from questions.ask(tokenizer, form, unit.item, condition)
    if form is CHOICE:
        options_alone = [replace(question, text="") for question in unit.item.questions]
        for prompt in questions.ask(tokenizer, form, unit.item, "closed_book", options_alone):
            yield replace(prompt, condition=OPTIONS_ALONE)
