"""Scores of trials on one engine: which questions go to which model, and where the answers are kept."""

import tempfile
import time
from collections.abc import Sequence
from typing import Any

from vllm import LLM

from engine.evaluation import likelihood, marks, questions
from engine.evaluation.likelihood import Answerer, Work
from engine.evaluation.marks import Row
from engine.evaluation.questions import Asked
from engine.inference import settings
from engine.models import catalogue, weights
from engine.storage.ledger import Ledger, name_untrained
from engine.storage.records import Planned, Scored


def score_adapters(group: Sequence[Planned], ledger: Ledger) -> None:
    """On one engine: the base model before training, then each trial's adapter."""
    todo = [p for p in group if not ledger.is_done(p.trial.key)]
    if not todo:
        return
    llm = start(todo[0], base_folder(todo[0]), max(p.trial.training.lora_rank for p in todo))
    score_base(llm, todo, ledger)
    with tempfile.TemporaryDirectory() as scratch:
        models = [Answerer(name=p.trial.key, adapter=ledger.weights(p.trial, scratch)) for p in todo]
        work = [(model, ask(llm, p)) for model, p in zip(models, todo, strict=True)]
        likelihood.probe(llm, work[0][1][0], models)
        score_trained(llm, work, todo, ledger)


def score_full(p: Planned, ledger: Ledger) -> None:
    """One trial with full weights, on an engine of its own: to swap weights in a running one goes wrong silently."""
    with tempfile.TemporaryDirectory() as scratch:
        llm = start(p, ledger.weights(p.trial, scratch), None)
        score_trained(llm, [(Answerer(name=p.trial.key), ask(llm, p))], [p], ledger)


def score_untrained(group: Sequence[Planned], ledger: Ledger) -> None:
    """The base model alone, where only full fine-tunes follow."""
    if any(not ledger.has_untrained(p.identity) for p in group):
        score_base(start(group[0], base_folder(group[0]), None), group, ledger)


def start(p: Planned, folder: str, rank: int | None) -> LLM:
    """An engine for trials like this one."""
    limit = min(settings.MAX_CONTEXT, catalogue.find(p.trial.trainee).architecture.max_context)
    return likelihood.start(folder, p.serving, p.trial.precision, limit, rank)


def base_folder(p: Planned) -> str:
    """The untrained weights, on this machine."""
    return str(weights.pull(catalogue.find(p.trial.trainee)))


def ask(llm: LLM, p: Planned) -> list[Asked]:
    """All that a trial's model is asked."""
    return list(questions.ask_all(llm.get_tokenizer(), p.items, p.trial.forms))


def score_base(llm: LLM, group: Sequence[Planned], ledger: Ledger) -> None:
    """Scores of the untrained model, once for all trials that ask it the same."""
    missing = {name_untrained(p.identity): p for p in group if not ledger.has_untrained(p.identity)}
    for p in missing.values():
        [rows] = likelihood.answer_all(llm, [(Answerer(name="base"), ask(llm, p))])
        ledger.mark_untrained(p, marks.table(rows["base"]))


def score_trained(llm: LLM, work: Work, trials: Sequence[Planned], ledger: Ledger) -> None:
    """Scores of the trained models, kept group by group; the seconds of a group are shared out by tokens."""
    parallel = {p.trial.key: p.serving.tensor_parallel for p in trials}
    tokens = {model.name: likelihood.n_tokens(asked) for model, asked in work}
    began = time.monotonic()
    for group in likelihood.answer_all(llm, work):
        seconds = (time.monotonic() - began) / sum(tokens[key] for key in group)
        for key, rows in group.items():
            record = Scored(evaluate_seconds=seconds * tokens[key], tensor_parallel=parallel[key], **accuracies(rows))
            ledger.mark_done(key, marks.table(rows), record)
        began = time.monotonic()


def accuracies(rows: Sequence[Row]) -> dict[str, Any]:
    """Accuracy by condition, for a reader of the file; the results table is made from the questions."""
    choices = [row for row in rows if row["form"] == questions.CHOICE.name]
    by = {c: [row["correct"] for row in choices if row["condition"] == c] for c in questions.CONDITIONS}
    return {f"accuracy_{c}": sum(correct) / len(correct) for c, correct in by.items()}
