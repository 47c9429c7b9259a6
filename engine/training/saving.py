"""What training writes at its end: weights and a record, or the reason why it diverged."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl
import torch.distributed as dist
from transformers import AutoTokenizer

from engine.cluster.machines import device_name
from engine.inference.chat import Encoded
from engine.models import arithmetic, catalogue
from engine.monitor import trackers
from engine.storage.digests import digest_files
from engine.storage.records import Failure, Trained
from engine.training.divergence import mean_loss
from engine.training.job import Job
from engine.training.steps import History, Step


def give_up(job: Job, reason: str) -> None:
    """Ends the trial with a reason, on all ranks alike; a retry would be wasted."""
    job.ledger.fail(Failure(key=job.key, phase="fine-tune", reason=reason))


@contextmanager
def tracked(job: Job, first: int) -> Iterator[Callable[[Step], None]]:
    """A function that sends the numbers of a step to the trackers, from step `first` on; rank 0 alone does."""
    if dist.get_rank() != 0:
        yield lambda step: None
        return
    with trackers.tracking(job.ledger, job.trial, first) as log:
        yield lambda step: log(
            step.step,
            {"loss": step.loss, "learning_rate": step.learning_rate, "tokens_per_second": step.tokens / step.seconds},
        )


def export(engine: Any, job: Job) -> dict[str, str]:
    """Writes the adapter, or the full model, as plain transformers and vLLM load it; gives the digests on rank 0."""
    state, files = gather(engine, job), {}
    if dist.get_rank() == 0:
        with tempfile.TemporaryDirectory() as folder:
            engine.module.save_pretrained(folder, state_dict=state)
            if job.trial.training.method == "full":
                AutoTokenizer.from_pretrained(job.folder).save_pretrained(folder)
            files = digest_files(Path(folder))
            job.ledger.put_weights(job.trial, folder)
    dist.barrier()
    return files


def gather(engine: Any, job: Job) -> dict[str, Any] | None:
    """The trained parameters from all ranks (ZeRO 3); None where each rank has them whole."""
    if job.placement.zero_stage < 3:
        return None
    lora = job.trial.training.method == "lora"
    state: dict[str, Any] | None = engine._zero3_consolidated_16bit_state_dict(exclude_frozen_parameters=lora)
    return state


def finish(job: Job, data: Sequence[Encoded], history: History, files: Mapping[str, str]) -> None:
    """Records that the trial is trained, with its loss log and what it took."""
    training, placement, log = job.trial.training, job.placement, history.steps
    tokens, lengths = sum(step.tokens for step in log), [len(e.ids) for e in data]
    seconds, context = sum(step.seconds for step in log), sum(n * n for n in lengths) / sum(lengths) / 2
    architecture = catalogue.find(job.trial.trainee).architecture
    record = Trained(
        train_tokens=tokens,
        unique_tokens=sum(len(ids) for ids in {tuple(e.ids) for e in data}),
        train_flops=arithmetic.train_flops(architecture, training, tokens, context),
        untrained_loss=history.untrained_loss,
        train_loss=mean_loss(log[-(len(log) // training.epochs) :]),
        steps=len(log),
        train_seconds=seconds,
        gpu_seconds=seconds * placement.n_workers if placement.device == "gpu" else 0.0,
        device=placement.device,
        device_name=device_name(placement.device),
        zero_stage=placement.zero_stage,
        n_workers=placement.n_workers,
        weight_files=dict(files),
    )
    job.ledger.mark_trained(job.key, pl.DataFrame([asdict(step) for step in log]), record)
