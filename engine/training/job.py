"""What the workers of one trial need: plain data. Imports neither torch nor deepspeed.

A job names its elements; workers read them from the pool, so that a driver with thousands of trials holds none.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from engine.cluster.machines import TrainingPlacement
from engine.inference.chat import Element
from engine.models import catalogue, weights
from engine.news.items import NewsItem
from engine.storage.ledger import Ledger
from engine.storage.records import Planned
from engine.study import Trial

CHECKPOINT_EVERY = "ENGRAM_CHECKPOINT_SECONDS"  # in the environment of the job and of its workers


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A trial with the news that it is about, where it runs, and where its files are."""

    trial: Trial
    items: tuple[NewsItem, ...]
    placement: TrainingPlacement
    ledger: Ledger

    @property
    def key(self) -> str:
        """The trial's key."""
        return self.trial.key

    @property
    def folder(self) -> str:
        """The trainee's weights on the machine that asks; each machine pulls them once."""
        return str(weights.pull(catalogue.find(self.trial.trainee)))


def count_elements(pool: str, ledger: Ledger) -> dict[str, int] | None:
    """How many elements a pool has of each item; None if the pool has not been written."""
    table = ledger.elements(pool)
    return None if table is None else dict(table.group_by("item").len().iter_rows())


def why_too_few(p: Planned, counts: Mapping[str, int] | None) -> str | None:
    """Why a trial cannot learn from its pool, which has so many elements of each item; None if it can."""
    if counts is None:
        return f"pool {p.trial.pool} has not been written; run jobs/selfplay.py"
    short = next((item.id for item in p.items if counts.get(item.id, 0) < p.trial.budget), None)
    if short is None:
        return None
    there = f"{counts.get(short, 0)} of {p.trial.budget} elements"
    return f"pool {p.trial.pool}, item {short!r}: {there}; run jobs/selfplay.py"


def replay(job: Job) -> Iterator[Element]:
    """The first `budget` elements of each item, with the news in front where the context mode says so."""
    first = job.ledger.read_elements(job.trial.pool).group_by("item", maintain_order=True).head(job.trial.budget)
    of_item = first.partition_by("item", as_dict=True)
    in_front = job.trial.context_mode != "none"
    for item in job.items:
        for user, assistant in of_item[(item.id,)].select("user", "assistant").iter_rows():
            yield Element(user=user, assistant=assistant, news=item.text if in_front else None)


def every_seconds() -> float:
    """Seconds of training between two checkpoints: what a trial loses at most when its workers are killed."""
    return float(os.environ.get(CHECKPOINT_EVERY, "600"))


def has_ended(job: Job) -> bool:
    """Is the trial trained, or has it diverged?"""
    failure = job.ledger.failure(job.key)
    return job.ledger.is_trained(job.key) or (failure is not None and failure.phase == "fine-tune")


def environment(placement: TrainingPlacement) -> dict[str, str]:
    """What a worker's process needs. Ray would give each as many OpenMP threads as CPUs that it reserves."""
    threads = {"OMP_NUM_THREADS": str(placement.threads)} if placement.device == "cpu" else {}
    accelerator = "cuda" if placement.device == "gpu" else "cpu"
    return threads | {"TOKENIZERS_PARALLELISM": "false", "DS_ACCELERATOR": accelerator}
