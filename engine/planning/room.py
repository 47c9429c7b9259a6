"""What a run will write to its storage: a lower bound from the plan, checked before anything starts.

weights        of each trial that is not trained: its adapter, or the whole model, in the trial's precision
checkpoints    two of the largest trial, since the old one is removed when the new one is there: what is trained, its
               two moments in float32, and in bfloat16 its master copy; trials that run at once need more
pools          of each pool: both texts of each element of the largest budget, at most `max_tokens` tokens long
records        of each trial: settings, loss log, answers, and their copies in the results tables
"""

from collections.abc import Sequence

from engine.models import catalogue
from engine.models.arithmetic import BYTES, n_trained
from engine.planning.plan import Refused
from engine.storage.records import Planned
from engine.storage.store import MIB, Store
from engine.study import Trial

CHARS_PER_TOKEN, TEXTS_PER_ELEMENT = 4, 2  # an element is kept as it was written, and as it was parsed
RECORD_BYTES = 2 * MIB


def needed_bytes(planned: Sequence[Planned]) -> dict[str, float]:
    """What the trials that are not done will write at least, by kind."""
    todo = [p for p in planned if p.state not in ("done", "stale", "damaged")]
    trials = [p.trial for p in todo if p.state != "trained"]
    pools: dict[str, float] = {}
    for p in todo:
        pools[p.trial.pool] = max(pools.get(p.trial.pool, 0.0), pool_bytes(p))
    return {
        "weights": sum(count_trained(trial) * BYTES[trial.precision] for trial in trials),
        "checkpoints": 2 * max((checkpoint_bytes(trial) for trial in trials), default=0.0),
        "pools": sum(pools.values()),
        "records": RECORD_BYTES * len(todo),
    }


def count_trained(trial: Trial) -> int:
    """Trained parameters of a trial."""
    return n_trained(catalogue.find(trial.trainee).architecture, trial.training)


def checkpoint_bytes(trial: Trial) -> float:
    """What is trained, with the state of its optimizer."""
    optimizer = 8 if trial.precision == "float32" else 12
    return float(count_trained(trial) * (BYTES[trial.precision] + optimizer))


def pool_bytes(p: Planned) -> float:
    """The texts of a pool."""
    n_elements = p.trial.budget * len(p.items)
    return float(n_elements * p.trial.sampling.max_tokens * CHARS_PER_TOKEN * TEXTS_PER_ELEMENT)


def describe(planned: Sequence[Planned], store: Store) -> str:
    """What is needed and what is free, in one line."""
    kinds = needed_bytes(planned)
    parts = ", ".join(f"{kind} {amount(n)}" for kind, n in kinds.items() if n)
    free = store.free_bytes()
    room = "" if free is None else f"; {amount(free)} are free"
    return f"storage: at least {amount(sum(kinds.values()))} will be written{f' ({parts})' if parts else ''}{room}"


def check(planned: Sequence[Planned], store: Store) -> None:
    """Raises Refused if the disk has less room than these trials need."""
    free, needed = store.free_bytes(), sum(needed_bytes(planned).values())
    if free is not None and free < needed:
        line = describe(planned, store)
        raise Refused(f"{store.root}: not enough room. {line}. Free some, or use another --storage")


def amount(n_bytes: float) -> str:
    """In the unit a person would choose."""
    for unit, size in (("TiB", 2**40), ("GiB", 2**30), ("MiB", MIB)):
        if n_bytes >= size:
            return f"{n_bytes / size:.1f} {unit}"
    return f"{n_bytes / 1024:.0f} KiB"
