"""Scores of trials: which questions are put to which model, and where the answers are written."""

import tempfile
import time
from collections.abc import Sequence
from typing import Any

import polars as pl

from engine import asking, evaluate, models, weights
from engine.asking import Ask
from engine.evaluate import Answering
from engine.plan import Planned
from engine.store import Store

# What no question of a table was asked in is empty, but has its type, so that tables of all trials fit together.
SCHEMA: dict[str, Any] = {
    "item": pl.String,
    "question": pl.String,
    "form": pl.String,
    "condition": pl.String,
    "correct": pl.Boolean,
    "correct_letter": pl.Boolean,
    "p_correct": pl.Float64,
    "nll_correct": pl.Float64,
    "answer": pl.Int64,
    "option_logprobs": pl.List(pl.Float64),
    "option_tokens": pl.List(pl.Int64),
    "letter_probabilities": pl.List(pl.Float64),
    "reply": pl.String,
}


def score_adapters(group: Sequence[Planned], store: Store, max_context: int) -> None:
    """On one engine: the base model before training, on its trials' news, and each trial's adapter after it."""
    todo = [p for p in group if not store.exists(f"{p.path}/result.json")]
    if not todo:
        return
    folder = str(weights.pull(models.find(group[0].trial.trainee)))
    rank = max(p.trial.training.lora_rank for p in group)
    llm = evaluate.engine(folder, group[0].profile, group[0].trial.precision, max_context, rank)
    tokenizer = llm.get_tokenizer()
    score_before(llm, todo, store)
    with tempfile.TemporaryDirectory() as scratch:
        adapters = {p.trial.key: store.local_folder(f"{p.path}/adapter", scratch) for p in todo}
        work = [(Answering(name=p.trial.key, adapter=adapters[p.trial.key]), questions(tokenizer, p)) for p in todo]
        evaluate.probe(llm, work[0][1][0], [who for who, _ in work])
        score_after(llm, work, store)


def score_full(group: Sequence[Planned], store: Store, max_context: int) -> None:
    """One trial with full weights, on an engine of its own: swapping weights in a running one goes wrong silently."""
    [trial] = group
    with tempfile.TemporaryDirectory() as scratch:
        folder = store.local_folder(f"{trial.path}/model", scratch)
        llm = evaluate.engine(folder, trial.profile, trial.trial.precision, max_context, None)
        score_after(llm, [(Answering(name=trial.trial.key), questions(llm.get_tokenizer(), trial))], store)


def score_untrained(group: Sequence[Planned], store: Store, max_context: int) -> None:
    """The base model alone, where only full fine-tunes follow."""
    todo = [p for p in group if not store.exists(f"{p.before}/before.json")]
    if todo:
        folder = str(weights.pull(models.find(group[0].trial.trainee)))
        llm = evaluate.engine(folder, group[0].profile, group[0].trial.precision, max_context, None)
        score_before(llm, todo, store)


def questions(tokenizer: Any, p: Planned) -> list[Ask]:
    """All that a trial's model is asked; what is asked about one item lies together."""
    pairs = [(item, condition) for item in p.items for condition in asking.CONDITIONS]
    asked = [a for item, condition in pairs for a in asking.ask_all(tokenizer, item, condition, p.trial.forms)]
    return asked + (list(asking.ask_general(tokenizer)) if "general" in p.trial.forms else [])


def score_before(llm: Any, todo: Sequence[Planned], store: Store) -> None:
    """Scores of the untrained model, once a domain."""
    domains = {p.before: p for p in todo if not store.exists(f"{p.before}/before.json")}
    for path, p in domains.items():
        rows = dict(evaluate.evaluate(llm, [(Answering(name="base"), questions(llm.get_tokenizer(), p))]))["base"]
        store.write_table(f"{path}/questions.parquet", pl.DataFrame(rows, schema=SCHEMA))
        store.write_json(f"{path}/before.json", {"trainee": p.identity["trainee"], "domain": p.trial.domain})


def score_after(llm: Any, work: evaluate.Work, store: Store) -> None:
    """Scores of the trained models, each written as it comes; result.json last: the trial is done."""
    began = time.monotonic()
    for key, rows in evaluate.evaluate(llm, work):
        store.write_table(f"trials/{key}/questions.parquet", pl.DataFrame(rows, schema=SCHEMA))
        shared = (time.monotonic() - began) / len(work)
        store.write_json(f"trials/{key}/result.json", {"evaluate_seconds": shared, **summary(rows)})


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Accuracy by condition, for a reader of the file; the tables are made from the questions."""
    by = {c: [r["correct"] for r in rows if r["condition"] == c and r["form"] == "choice"] for c in asking.CONDITIONS}
    return {f"accuracy_{c}": sum(right) / len(right) for c, right in by.items()}
