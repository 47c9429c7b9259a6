"""What of a study is done, what is to do, what it will take: read from the files, nothing is started.

python jobs/grid.py --study quickstart --plan
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from engine import cost, models, news, protocols, study
from engine.cost import Device, Estimate, Machine, Profile
from engine.news import NewsItem
from engine.store import Store
from engine.study import Study, Trial

State = Literal["done", "trained", "to do", "failed", "stale"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """A trial with its identity, its news, where it stands and what it will take."""

    trial: Trial
    items: tuple[NewsItem, ...]
    identity: dict[str, Any]
    state: State
    differs: tuple[str, ...]  # of a stale trial: the fields that are not as they were
    profile: Profile
    estimate: Estimate

    @property
    def path(self) -> str:
        """The trial's folder in the store."""
        return f"trials/{self.trial.key}"

    @property
    def before(self) -> str:
        """The folder of the untrained model's scores."""
        return f"before/{study.before(self.identity)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """A trial that did not come to its end, and why."""

    key: str
    reason: str


class Refused(Exception):
    """A study that cannot be run as it is; the message lists every reason, a line each."""


def plan(study_: Study, store: Store, machine: Machine) -> list[Planned]:
    """All trials of the study, the longest first. Raises Refused or news.NewsError on anything wrong with the study."""
    by_domain = study.select(study_)
    if faults := study.faults(study_, by_domain):
        raise Refused("\n".join(faults))
    check_lengths(study_, by_domain)
    speed = measured_speed(store, machine.device)
    planned = [plan_trial(t, tuple(by_domain[t.domain]), store, machine, speed) for t in study_.trials]
    return sorted(planned, key=lambda p: -p.estimate.seconds)


def check_lengths(study_: Study, by_domain: dict[str, list[NewsItem]]) -> None:
    """Refuses news that cannot fit a model's context, at four characters a token, before anything starts."""
    for name in sorted({m for t in study_.trials for m in (t.trainee, t.writer)}):
        limit = models.find(name).architecture.max_context
        items = [i for domain in sorted({t.domain for t in study_.trials}) for i in by_domain[domain]]
        news.check_length(items, study_.news, lambda text: len(text) // 4, limit, name)


def plan_trial(
    trial: Trial, items: tuple[NewsItem, ...], store: Store, machine: Machine, speed: float | None
) -> Planned:
    """One trial as it stands."""
    identity = study.trial_identity(trial, items)
    state, differs = standing(trial, identity, store)
    arch = models.find(trial.trainee).architecture
    where = cost.profile(arch, trial.training, trial.precision, machine)
    generates = protocols.find(trial.protocol).write is not None
    expected = cost.estimate(
        arch,
        models.find(trial.writer).architecture if generates else None,
        trial.training,
        where,
        n_elements=trial.budget * len(items),
        news_chars=sum(len(i.text) for i in items) / len(items),
        in_front=trial.context_mode != "none",
        measured=speed,
    )
    return Planned(
        trial=trial, items=items, identity=identity, state=state, differs=differs, profile=where, estimate=expected
    )


def standing(trial: Trial, identity: dict[str, Any], store: Store) -> tuple[State, tuple[str, ...]]:
    """Where a trial stands, and if it is stale, in which fields it differs from what was begun under its key."""
    path = f"trials/{trial.key}"
    if store.exists(f"{path}/trial.json"):
        begun = store.read_json(f"{path}/trial.json")
        if begun["fingerprint"] != study.fingerprint(identity):
            return "stale", tuple(study.differences(begun["identity"], identity))
    for file, state in (("result.json", "done"), ("trained.json", "trained"), ("failure.json", "failed")):
        if store.exists(f"{path}/{file}"):
            return state, ()  # type: ignore[return-value]
    return "to do", ()


def refuse_stale(planned: Sequence[Planned], store: Store) -> None:
    """Raises Refused that shows, for each stale trial, the fields that differ and what to do."""
    stale = [p for p in planned if p.state == "stale"]
    lines = [f"{p.trial.key} was begun with other settings:\n    " + "\n    ".join(p.differs) for p in stale]
    if lines:
        lines.append(
            f"Use another --storage, or remove these folders of {store.root}/trials if their results are not needed."
        )
        raise Refused("\n".join(lines))


def measured_speed(store: Store, device: Device) -> float | None:
    """Training operations a second over the trials that this storage holds for the device; None if there is none."""
    done = [r for r in map(store.read_json, store.list("trials/*/trained.json")) if r["device"] == device]
    seconds = sum(r["train_seconds"] for r in done)
    return sum(r["train_flops"] for r in done) / seconds if seconds else None


# ---- the machine -----------------------------------------------------------------------------------------------------


def this_machine(device: Device | None) -> Machine:
    """What this machine has; asked for a GPU where there is none, an 8-GPU node of 80 GiB each is planned for."""
    gpus = gpu_memories()
    if device == "cpu" or (device is None and not gpus):
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / cost.GIB
        return Machine(device="cpu", n_cpus=len(os.sched_getaffinity(0)), n_gpus=0, device_gib=memory)
    return Machine(device="gpu", n_cpus=os.cpu_count() or 1, n_gpus=len(gpus) or 8, device_gib=min(gpus, default=80.0))


def gpu_memories() -> list[float]:
    """Memory of each NVIDIA GPU in GiB, without importing torch."""
    if not shutil.which("nvidia-smi") or not Path("/dev/nvidiactl").exists():
        return []
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    shown = subprocess.run(query, capture_output=True, text=True, check=False).stdout
    return [float(line) / 1024 for line in shown.split() if line.strip().isdigit()]
