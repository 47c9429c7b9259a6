"""What the workers of one trial need: plain data. Imports neither torch nor deepspeed."""

from collections.abc import Iterator
from dataclasses import dataclass

from engine.cluster.machines import TrainingPlacement
from engine.inference.chat import Element
from engine.models import catalogue, weights
from engine.storage.ledger import Ledger
from engine.storage.records import Planned
from engine.study import Trial


class TooFewElements(Exception):
    """A pool that was not written, or not far enough."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A trial with its replay elements, where it runs, and where its files go."""

    trial: Trial
    elements: tuple[Element, ...]
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


def make_job(p: Planned, ledger: Ledger) -> Job:
    """The job of a planned trial. Raises TooFewElements that names the pool and the item."""
    return Job(trial=p.trial, elements=tuple(replay(p, ledger)), placement=p.training, ledger=ledger)


def replay(p: Planned, ledger: Ledger) -> Iterator[Element]:
    """The first `budget` elements of each item, with the news in front where the context mode says so."""
    table = ledger.elements(p.trial.pool)
    if table is None:
        raise TooFewElements(f"pool {p.trial.pool} has not been written; run jobs/selfplay.py")
    of_item = table.partition_by("item", as_dict=True)
    for item in p.items:
        mine = of_item.get((item.id,), table.clear()).head(p.trial.budget)
        if mine.height < p.trial.budget:
            there = f"{mine.height} of {p.trial.budget} elements"
            raise TooFewElements(f"pool {p.trial.pool}, item {item.id!r}: {there}; run jobs/selfplay.py")
        news = item.text if p.trial.context_mode != "none" else None
        yield from (Element(user=u, assistant=a, news=news) for u, a in mine.select("user", "assistant").iter_rows())


def environment(placement: TrainingPlacement) -> dict[str, str]:
    """What a worker's process needs. Ray would give each as many OpenMP threads as CPUs that it reserves."""
    threads = {"OMP_NUM_THREADS": str(placement.threads)} if placement.device == "cpu" else {}
    accelerator = "cuda" if placement.device == "gpu" else "cpu"
    return threads | {"TOKENIZERS_PARALLELISM": "false", "DS_ACCELERATOR": accelerator}
