"""Evaluation: all trained models of a study and their bases are asked, on as many engines as the cluster has room for.

    python jobs/evaluate.py --study quickstart

An engine on a base model serves many adapters. So the trials of a base are shared out in chunks, each a task with an
engine of its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from engine.cluster import engines, reach
from engine.inference.worker import run_on_workers
from engine.models import catalogue
from engine.models.architecture import n_params
from engine.monitor import errors, progress
from engine.storage.ledger import Ledger, name_untrained
from engine.storage.records import Failure, Planned

RETRIES = 2  # of a worker that dies; what it had scored is kept
ADAPTERS = (8, 32)  # of a chunk, at least and at most: fewer do not repay an engine's start, more let others wait


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What one engine scores: these trials, and the untrained models of `bases`."""

    trials: Sequence[Planned] = ()
    bases: Sequence[Planned] = ()

    @property
    def first(self) -> Planned:
        """A trial that tells what all of them share."""
        return (*self.trials, *self.bases)[0]

    @property
    def names(self) -> list[str]:
        """Of all models that are asked."""
        return [p.trial.key for p in self.trials] + [name_untrained(p.identity) for p in self.bases]

    @property
    def work(self) -> int:
        """How long it takes, compared with others."""
        return n_params(catalogue.find(self.first.trial.trainee).architecture) * len(self.names)


def run(planned: Sequence[Planned], ledger: Ledger) -> list[Failure]:
    """Scores those of these trials that are trained and not scored, and their base models; gives those that failed."""
    todo = [p for p in planned if ledger.is_trained(p.trial.key) and not ledger.is_done(p.trial.key)]
    reasons = reach.wait_for_nodes({p.trial.key: p.serving for p in todo})
    failures = [Failure(key=key, phase="evaluate", reason=why) for key, why in reasons.items()]
    todo = [p for p in todo if p.trial.key not in reasons]
    tasks = [task for group in by_engine(todo) for task in share_out(group, ledger)]
    ended = score_all(tasks, ledger) if tasks else {}
    unscored = [p for p in todo if not ledger.is_done(p.trial.key)]
    return failures + [why_unscored(p, ended, ledger) for p in unscored]


def by_engine(planned: Sequence[Planned]) -> list[list[Planned]]:
    """Trials that one engine can serve."""
    groups: dict[tuple[str, str, str], list[Planned]] = {}
    for p in planned:
        groups.setdefault((p.trial.trainee, p.trial.precision, p.trial.training.method), []).append(p)
    return list(groups.values())


def share_out(group: Sequence[Planned], ledger: Ledger) -> Iterator[Task]:
    """The trials of one base model as tasks. Adapters share an engine; full weights need one each."""
    missing = {name_untrained(p.identity): p for p in group if not ledger.has_untrained(p.identity)}
    bases, trials = tuple(missing.values()), [p for p in group if not ledger.is_scored(p.trial.key)]
    if not trials or (bases and group[0].trial.training.method == "full"):
        yield Task(bases=bases)
        bases = ()
    size = 1
    if group[0].trial.training.method == "lora":
        size = engines.size_of_chunks(len(trials), reach.count_engines(group[0].serving), ADAPTERS)
    for i in range(0, len(trials), size):
        yield Task(trials=trials[i : i + size], bases=bases if i == 0 else ())


def score_all(tasks: Sequence[Task], ledger: Ledger) -> dict[str, BaseException]:
    """Scores where there is room for engines, the widest and longest first.

    Gives the errors that ended engines, by the keys of the trials and the names of the untrained models on them.
    """
    tasks = sorted(tasks, key=lambda t: (-t.first.serving.tensor_parallel, -t.work))
    with progress.shown("evaluate", sum(len(task.names) for task in tasks), ledger):
        calls = [(task.first.serving, (task.trials, task.bases, ledger)) for task in tasks]
        ended = run_on_workers(score, calls, RETRIES)
    return {name: error for task, error in zip(tasks, ended, strict=True) if error for name in task.names}


def score(trials: Sequence[Planned], bases: Sequence[Planned], ledger: Ledger) -> None:
    """Runs in a worker, where alone the engine's code is imported."""
    from engine.evaluation import scoring

    scoring.score(trials, bases, ledger)


def why_unscored(p: Planned, ended: Mapping[str, BaseException], ledger: Ledger) -> Failure:
    """Why a trial has no scores: its own fault, which its files name, before what ended its engine or its base's."""
    key = p.trial.key
    failure = ledger.failure(key)
    if failure and failure.phase == "evaluate":
        return failure
    return errors.failure(key, "evaluate", ended.get(key) or ended.get(name_untrained(p.identity)))
