"""Checkpoints of a trial that trains: tensors as safetensors and a record as JSON. None of it can run code.

DeepSpeed's own checkpoints are pickles, and whoever can write to the storage could run code in every worker. Each rank
keeps the float32 parameters that AdamW updates there with their two moments, which is all that changes from step to
step: training goes on bit for bit. What cannot be used (damaged, or of another ZeRO stage or number of workers) is left
alone by all ranks together, and the trial begins anew.
"""

import json
import logging
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.train
import torch
import torch.distributed as dist
from ray.train.utils import _in_ray_train_worker
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from engine.storage.digests import digest_file
from engine.storage.records import RecordError, from_plain, to_plain
from engine.training.job import Job, every_seconds
from engine.training.steps import History

log = logging.getLogger(__name__)
LOOK_S = 5.0  # between two looks for notice that a node will be taken away
MOMENTS = ("exp_avg", "exp_avg_sq")  # as AdamW calls them


@dataclass(frozen=True, kw_only=True, slots=True)
class Saved:
    """`rankN.json`: what one rank kept in `rankN.safetensors`, whose SHA-256 it has, and how far training was."""

    zero_stage: int
    n_workers: int
    sha256: str
    history: History


class Unusable(Exception):
    """A checkpoint that this trial cannot go on from; the message says why."""


FAULTS = (Unusable, OSError, ValueError, SafetensorError, RecordError)  # of a rank's part of a checkpoint


class Clock:
    """Says when the next checkpoint is due. Rank 0's time counts for all, so that all ranks agree."""

    def __init__(self) -> None:
        self.saved = self.looked = time.monotonic()
        self.warned = False

    def is_due(self, engine: Any) -> bool:
        """Has enough time gone by since the last one, or will a node soon be taken away?"""
        now = torch.tensor(time.monotonic(), dtype=torch.float64, device=engine.device)
        dist.broadcast(now, 0)
        if float(now) - self.saved > every_seconds() or self.is_warned(float(now)):
            self.saved = float(now)
            return True
        return False

    def is_warned(self, now: float) -> bool:
        """Is there notice, for the first time, that a node will be taken away? Asked now and then: all ranks wait.

        Only Ray Train gets notice; the benchmark trains without it.
        """
        if self.warned or now - self.looked < LOOK_S or not _in_ray_train_worker():
            return False
        self.looked = now
        self.warned = ray.train.get_preemption_info() is not None
        return self.warned


def save(engine: Any, job: Job, history: History) -> None:
    """Keeps a checkpoint, from all ranks at once."""
    step, rank = len(history.steps), dist.get_rank()
    with tempfile.TemporaryDirectory() as folder:
        write(engine, job, history, Path(folder))
        job.ledger.put_checkpoint(job.key, step, rank, folder)
    dist.barrier()
    if rank == 0:
        job.ledger.finish_checkpoint(job.key, step)


def resume(engine: Any, job: Job) -> History | None:
    """Goes on from the last checkpoint; gives its history, or None where there is none or none that can be used."""
    with tempfile.TemporaryDirectory() as scratch:
        try:
            folder = job.ledger.checkpoint(job.key, dist.get_rank(), scratch)
        except RecordError as why:  # on all ranks alike
            log.warning("%s begins anew: %s", job.key, why)
            return None
        return restore(engine, job, Path(folder)) if folder else None


# ---- one rank's files ------------------------------------------------------------------------------------------------


def write(engine: Any, job: Job, history: History, folder: Path) -> None:
    """Writes what this rank has to keep."""
    file = folder / f"rank{dist.get_rank()}.safetensors"
    save_file({name: tensor.cpu().contiguous() for name, tensor in kept_tensors(engine).items()}, file)
    placement = job.placement
    record = Saved(
        zero_stage=placement.zero_stage, n_workers=placement.n_workers, sha256=digest_file(file), history=history
    )
    file.with_suffix(".json").write_text(json.dumps(to_plain(record), allow_nan=False))


def restore(engine: Any, job: Job, folder: Path) -> History | None:
    """Fills the engine from a checkpoint; None, and an engine as it was, where any rank cannot use its part."""
    file = folder / f"rank{dist.get_rank()}.safetensors"
    history = None
    try:
        history = check(engine, job, file)
    except FAULTS as why:
        log.warning("%s begins anew: its checkpoint cannot be used: %s", job.key, why)
    if not is_equal_on_all_ranks(engine, len(history.steps) if history else 0):
        return None
    fill(engine, file)
    return history


def check(engine: Any, job: Job, file: Path) -> History:
    """The history of this rank's part of a checkpoint. Raises one of FAULTS."""
    record = file.with_suffix(".json")
    saved = from_plain(Saved, json.loads(record.read_text()), str(record))
    ran, runs = (saved.zero_stage, saved.n_workers), (job.placement.zero_stage, job.placement.n_workers)
    if ran != runs:
        raise Unusable("it is of ZeRO stage {} on {} worker(s), not {} on {}".format(*ran, *runs))
    if digest_file(file) != saved.sha256:
        raise Unusable(f"{file}: damaged, its SHA-256 is not the one in {record.name}")
    with safe_open(file, framework="pt") as stored:
        names = stored.keys()
        if {name: tuple(stored.get_slice(name).get_shape()) for name in names} != expected_shapes(engine):
            raise Unusable(f"{file}: its tensors are not those of this model")
    return saved.history


def is_equal_on_all_ranks(engine: Any, number: int) -> bool:
    """Have all ranks the same number, above 0? Each has to ask."""
    bounds = torch.tensor([number, -number], device=engine.device)
    dist.all_reduce(bounds, op=dist.ReduceOp.MIN)
    return bool(bounds[0] == -bounds[1] > 0)


# ---- what an engine holds --------------------------------------------------------------------------------------------


def masters(engine: Any) -> list[Any]:
    """The parameters that AdamW updates on this rank: whole ones under ZeRO 0, this rank's part of all under 1 to 3."""
    if engine.zero_optimization_stage() == 3:
        return list(engine.optimizer.fp32_partitioned_groups_flat)
    return [parameter for group in adamw(engine).param_groups for parameter in group["params"]]


def adamw(engine: Any) -> Any:
    """torch's optimizer, which DeepSpeed wraps unless it has nothing to add (ZeRO 0 in float32)."""
    return getattr(engine.optimizer, "optimizer", engine.optimizer)


def kept_tensors(engine: Any) -> dict[str, Any]:
    """The parameters with AdamW's moments and step counts, by name."""
    kept = {}
    for i, parameter in enumerate(masters(engine)):
        kept[f"{i}.value"] = parameter.detach()
        kept |= {f"{i}.{name}": tensor for name, tensor in adamw(engine).state[parameter].items()}
    return kept


def expected_shapes(engine: Any) -> dict[str, tuple[int, ...]]:
    """The shapes of what `kept_tensors` gives after the first step."""
    shapes: dict[str, tuple[int, ...]] = {}
    for i, parameter in enumerate(masters(engine)):
        shapes |= {f"{i}.{name}": tuple(parameter.shape) for name in ("value", *MOMENTS)} | {f"{i}.step": ()}
    return shapes


@torch.no_grad()
def fill(engine: Any, file: Path) -> None:
    """Sets the parameters and AdamW's state on this rank, then the model's own parameters on all ranks together."""
    state = adamw(engine).state
    with safe_open(file, framework="pt") as stored:
        for i, parameter in enumerate(masters(engine)):
            parameter.copy_(stored.get_tensor(f"{i}.value"))
            moments = {name: stored.get_tensor(f"{i}.{name}").to(parameter.device) for name in MOMENTS}
            # On the CPU, whatever the device: that is where AdamW counts.
            state[parameter] = {"step": stored.get_tensor(f"{i}.step"), **moments}
    publish(engine)


def publish(engine: Any) -> None:
    """Brings the parameters that AdamW updates into those that the model computes with, as a step does at its end."""
    optimizer, stage = engine.optimizer, engine.zero_optimization_stage()
    if stage == 3:
        optimizer.checkpoint_event_prologue()
        for group in range(len(optimizer.fp32_partitioned_groups_flat)):
            optimizer._reassign_or_swap_out_partitioned_parameters(group)
        optimizer.checkpoint_event_epilogue()
    elif stage > 0:
        optimizer.update_lp_params()
    else:
        # Under ZeRO 0 these are two sets in bfloat16 only.
        groups = zip(getattr(optimizer, "fp16_groups", ()), getattr(optimizer, "fp32_groups", ()), strict=True)
        for model_side, float32_side in groups:
            torch._foreach_copy_(model_side, float32_side)
