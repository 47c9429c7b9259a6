"""Evaluation: all trained models of a study and their bases are asked; one engine per base model serves all adapters.

python jobs/evaluate.py --study quickstart
"""

from collections.abc import Callable, Sequence
from typing import Any

import ray

from engine.cluster import reach
from engine.inference.worker import run_on_worker
from engine.monitor import errors, progress
from engine.storage.ledger import Ledger, name_untrained
from engine.storage.records import Failure, Planned

RETRIES = 2  # of a worker that dies; what it had scored is kept


def run(planned: Sequence[Planned], ledger: Ledger) -> list[Failure]:
    """Scores those of these trials that are trained and not scored, and their base models; gives those that failed."""
    todo = [p for p in planned if ledger.is_trained(p.trial.key) and not ledger.is_done(p.trial.key)]
    reasons = reach.wait_for_nodes({p.trial.key: p.serving for p in todo})
    failures = [Failure(key=key, phase="evaluate", reason=why) for key, why in reasons.items()]
    todo = [p for p in todo if p.trial.key not in reasons]
    if not todo:
        return failures
    bases = {name_untrained(p.identity) for p in todo if not ledger.has_untrained(p.identity)}
    with progress.shown("evaluate", len(todo) + len(bases)):
        return failures + [failure for group in by_engine(todo) for failure in score_group(group, ledger)]


def by_engine(planned: Sequence[Planned]) -> list[list[Planned]]:
    """Trials that one engine can serve."""
    groups: dict[tuple[str, str, str], list[Planned]] = {}
    for p in planned:
        groups.setdefault((p.trial.trainee, p.trial.precision, p.trial.training.method), []).append(p)
    return list(groups.values())


def score_group(group: Sequence[Planned], ledger: Ledger) -> list[Failure]:
    """Scores the trials of one base model; those without scores afterwards have failed, each for its own reason."""
    if group[0].trial.training.method == "lora":
        error = on_engine(score_adapters, group, ledger)
        reasons = {p.trial.key: error for p in group}
    else:
        untrained = on_engine(score_untrained, group, ledger)
        reasons = {p.trial.key: untrained or on_engine(score_full, [p], ledger) for p in group}
    return [why_unscored(key, why, ledger) for key, why in reasons.items() if not ledger.is_done(key)]


def why_unscored(key: str, error: BaseException | None, ledger: Ledger) -> Failure:
    """Why a trial has no scores: its own fault, which its files name, before what ended the engine."""
    failure = ledger.failure(key)
    return failure if failure and failure.phase == "evaluate" else errors.failure(key, "evaluate", error)


def on_engine(score: Callable[..., Any], group: Sequence[Planned], ledger: Ledger) -> BaseException | None:
    """Scores where there is room for the engine; gives the error if it fails."""
    try:
        run_on_worker(score, group[0].serving, list(group), ledger, retries=RETRIES)
    except ray.exceptions.RayError as error:
        return error
    return None


# ---- in a worker, where alone the engine's code is imported ----------------------------------------------------------


def score_adapters(group: Sequence[Planned], ledger: Ledger) -> None:
    from engine.evaluation import scoring

    scoring.score_adapters(group, ledger)


def score_untrained(group: Sequence[Planned], ledger: Ledger) -> None:
    from engine.evaluation import scoring

    scoring.score_untrained(group, ledger)


def score_full(group: Sequence[Planned], ledger: Ledger) -> None:
    from engine.evaluation import scoring

    scoring.score_full(group[0], ledger)
