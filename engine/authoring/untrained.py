"""What untrained models make of news: the measurement that tells whether questions need the news and can be answered
with it.

    python jobs/check_news.py my.jsonl

Everything that a study asks is asked closed-book and in context; and the options are scored after a prompt that holds
no question at all. What a model made of an item in one form is kept under a fingerprint of all that affects it, so
that a run that ends early goes on where it was, and an item that was changed is the only one that is asked again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from engine.cluster.machines import Machine, ServingPlacement
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
RETRIES = 2  # of a worker that dies


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """What is asked and kept at a time: one item in one form."""

    model: str
    item: NewsItem
    form: str
    precision: Precision

    @property
    def path(self) -> str:
        """Where its rows are, by all that affects them."""
        affects = {
            "model": identity.revision(self.model),
            "precision": self.precision,
            "asking": chat.WORDINGS,
            "item": [self.item.text, questions.identify_item(self.form, self.item)],
        }
        return f"{slug(self.model)}/{self.form}/{self.item.id}-{fingerprint(affects)[:12]}.parquet"


def measure(
    model: str, items: Sequence[NewsItem], forms: Sequence[str], precision: Precision, store: Store, machine: Machine
) -> pl.DataFrame:
    """The model's rows of the question table (conditions closed_book, icl, options_alone); from the store if there.

    Ray has to be running.
    """
    units = [Unit(model=model, item=item, form=form, precision=precision) for form in forms for item in items]
    if missing := [unit for unit in units if not store.exists(unit.path)]:
        serving = placement.place_serving(catalogue.find(model).architecture, precision, machine)
        weights.pull(catalogue.find(model))
        with progress.shown(f"asking {slug(model)}", len(missing)):
            run_on_worker(answer_units, serving, missing, serving, store, retries=RETRIES)
    return pl.concat(store.read_table(unit.path) for unit in units)


def answer_units(units: Sequence[Unit], serving: ServingPlacement, store: Store) -> None:
    """Asks the model what the store does not have; each unit is written as it comes. Runs in a worker."""
    from engine.evaluation import likelihood

    model, precision = catalogue.find(units[0].model), units[0].precision
    limit = min(settings.MAX_CONTEXT, model.architecture.max_context)
    llm = likelihood.start(str(weights.pull(model)), serving, precision, limit, None)
    missing = {unit.path: unit for unit in units if not store.exists(unit.path)}
    asked = {path: list(ask_unit(llm.get_tokenizer(), unit)) for path, unit in missing.items()}
    work = [(likelihood.Answerer(name=path), one) for path, one in asked.items()]
    for group in likelihood.answer_all(llm, work):
        for path, rows in group.items():
            store.write_table(path, marks.table(rows))


def ask_unit(tokenizer: Any, unit: Unit) -> Iterator[Asked]:
    """All that is asked about an item in one form, and of choices the options without their question."""
    form = FORMS[unit.form]
    for condition in questions.CONDITIONS:
        yield from questions.ask(tokenizer, form, unit.item, condition)
    if form is CHOICE:
        hidden = [replace(question, text="") for question in unit.item.questions]
        alone = questions.ask(tokenizer, form, unit.item, "closed_book", hidden)
        yield from (replace(asked, condition=OPTIONS_ALONE) for asked in alone)
