"""Scores of trials on one engine: which questions go to which model, and where the answers are kept."""

import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

from vllm import LLM

from engine import UserError
from engine.evaluation import intact, likelihood, marks, probes, questions
from engine.evaluation.intact import Damaged
from engine.evaluation.likelihood import BASE, Answerer, Work
from engine.evaluation.marks import Row
from engine.evaluation.questions import Asked
from engine.inference import settings
from engine.models import catalogue, weights
from engine.monitor import trackers
from engine.storage.ledger import Ledger
from engine.storage.records import Failure, Planned, Scored


def score(trials: Sequence[Planned], bases: Sequence[Planned], ledger: Ledger) -> None:
    """Scores the untrained models of `bases` and these trials on one engine; of full fine-tunes, one is all it serves.

    Those whose weights are no good have failed. What is scored already, by a worker that died, is left as it is.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folders = find_weights([p for p in trials if not ledger.is_scored(p.trial.key)], ledger, scratch)
        sound = [p for p in trials if p.trial.key in folders]
        missing = [p for p in bases if not ledger.has_untrained(p.identity)]
        if sound and sound[0].trial.training.method == "full":
            score_full(sound[0], folders[sound[0].trial.key], ledger)
        elif sound or missing:
            score_adapters(sound, folders, missing, ledger)


def score_full(p: Planned, folder: str, ledger: Ledger) -> None:
    """One trial with full weights, on an engine of its own: to swap weights in a running one goes wrong silently."""
    llm = start(p, folder, None)
    score_trained(llm, [(Answerer(name=p.trial.key), ask(llm, p))], [p], ledger)


def score_adapters(
    trials: Sequence[Planned], folders: Mapping[str, str], bases: Sequence[Planned], ledger: Ledger
) -> None:
    """On one engine: base models before training, then each trial's adapter, in a folder by key."""
    first = (*trials, *bases)[0]
    rank = max((p.trial.training.lora_rank for p in trials), default=None)
    llm = start(first, base_folder(first), rank)
    score_bases(llm, bases, ledger)
    work = [(Answerer(name=p.trial.key, adapter=folders[p.trial.key]), ask(llm, p)) for p in trials]
    faults = probes.probe(llm, work[0][1], [model for model, _ in work]) if work else {}
    for key, fault in faults.items():
        fail(key, fault, ledger)
    score_trained(llm, [(m, asked) for m, asked in work if m.name not in faults], trials, ledger)


def find_weights(trials: Sequence[Planned], ledger: Ledger, scratch: str) -> dict[str, str]:
    """Local folders of the trials' weights by key; the others have failed. What is damaged will be trained again."""
    folders = {}
    for p in trials:
        key = p.trial.key
        try:
            folders[key] = intact.find_weights(p, ledger, scratch)
        except Damaged as damage:
            fail(key, f"{damage}; run the study again, it trains this trial again", ledger)
            ledger.withdraw_training(key)
        except (UserError, OSError) as why:
            fail(key, str(why), ledger)
    return folders


def fail(key: str, reason: str, ledger: Ledger) -> None:
    """Records why a trial has no scores; the others of its group go on."""
    ledger.fail(Failure(key=key, phase="evaluate", reason=reason))


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


def score_bases(llm: LLM, bases: Sequence[Planned], ledger: Ledger) -> None:
    """Scores of the untrained model, for each of these trials that ask it different questions."""
    for p in bases:
        [rows] = likelihood.answer_all(llm, [(BASE, ask(llm, p))])
        if fault := marks.find_fault(rows[BASE.name]):
            raise probes.SilentError(f"the untrained model {p.trial.trainee} is no good: {fault}")
        ledger.mark_untrained(p, marks.table(rows[BASE.name]))


def score_trained(llm: LLM, work: Work, trials: Sequence[Planned], ledger: Ledger) -> None:
    """Scores of the trained models, kept group by group; the seconds of a group are shared out by tokens."""
    by_key = {p.trial.key: p for p in trials}
    tokens = {model.name: likelihood.n_tokens(asked) for model, asked in work}
    began = time.monotonic()
    for group in likelihood.answer_all(llm, work):
        seconds = (time.monotonic() - began) / sum(tokens[key] for key in group)
        for key, rows in group.items():
            keep(by_key[key], rows, seconds * tokens[key], ledger)
        began = time.monotonic()


def keep(p: Planned, rows: Sequence[Row], seconds: float, ledger: Ledger) -> None:
    """Records what a trained model answered, in so many seconds; one that has diverged has failed."""
    key = p.trial.key
    if fault := marks.find_fault(rows):
        fail(key, marks.name_divergence(fault), ledger)
        return
    shares, steps = accuracies(rows), ledger.trained(key).steps
    record = Scored(evaluate_seconds=seconds, tensor_parallel=p.serving.tensor_parallel, **shares)
    ledger.mark_done(key, marks.table(rows), record)
    with trackers.tracking(ledger, p.trial, steps) as log:
        log(steps, shares)


def accuracies(rows: Sequence[Row]) -> dict[str, Any]:
    """Accuracy by condition, for a reader of the file; the results table is made from the questions."""
    choices = [row for row in rows if row["form"] == questions.CHOICE.name]
    by = {c: [row["correct"] for row in choices if row["condition"] == c] for c in questions.CONDITIONS}
    return {f"accuracy_{c}": sum(correct) / len(correct) for c, correct in by.items()}
