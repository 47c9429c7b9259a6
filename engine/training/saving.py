"""What training writes: checkpoints while it runs, weights and a record at its end, the reason if it diverged."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import ray.train
import torch.distributed as dist
from transformers import AutoTokenizer

from engine.cluster.machines import device_name
from engine.inference.chat import Encoded
from engine.models import arithmetic, catalogue
from engine.storage.records import Failure, Trained
from engine.training.job import Job

Log = list[dict[str, Any]]  # one entry per step that is done


def save(engine: Any, log: Log) -> None:
    """A checkpoint of the trained parameters, the optimizer and the loss log, from all ranks at once."""
    with tempfile.TemporaryDirectory() as folder:
        engine.save_checkpoint(folder, tag="state", exclude_frozen_parameters=True)
        if ray.train.get_context().get_world_rank() == 0:
            Path(folder, "losses.json").write_text(json.dumps(log))
        ray.train.report({"step": len(log)}, checkpoint=ray.train.Checkpoint.from_directory(folder))


def resume(engine: Any) -> Log:
    """Loads the last checkpoint if there is one; gives the loss log so far."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return []
    with checkpoint.as_directory() as folder:
        engine.load_checkpoint(folder, tag="state", load_module_strict=False)
        return list(json.loads(Path(folder, "losses.json").read_text()))


def give_up(job: Job, reason: str) -> None:
    """Ends the trial with a reason, on all ranks alike; a retry would be wasted."""
    job.ledger.fail(Failure(key=job.key, phase="fine-tune", reason=reason))


def export(engine: Any, job: Job) -> None:
    """Writes the adapter, or the full model, as plain transformers and vLLM load it."""
    state = gather(engine, job)
    if dist.get_rank() == 0:
        with tempfile.TemporaryDirectory() as folder:
            engine.module.save_pretrained(folder, state_dict=state)
            if job.trial.training.method == "full":
                AutoTokenizer.from_pretrained(job.folder).save_pretrained(folder)
            job.ledger.put_weights(job.trial, folder)
    dist.barrier()


def gather(engine: Any, job: Job) -> dict[str, Any] | None:
    """The trained parameters from all ranks (ZeRO 3); None where each rank has them whole."""
    if job.placement.zero_stage < 3:
        return None
    lora = job.trial.training.method == "lora"
    state: dict[str, Any] | None = engine._zero3_consolidated_16bit_state_dict(exclude_frozen_parameters=lora)
    return state


def finish(job: Job, data: Sequence[Encoded], log: Log) -> None:
    """Records that the trial is trained, with its loss log and what it took."""
    training, placement = job.trial.training, job.placement
    last_epoch = log[-(len(log) // training.epochs) :]
    tokens, lengths = int(sum(e["tokens"] for e in log)), [len(e.ids) for e in data]
    seconds, context = sum(e["seconds"] for e in log), sum(n * n for n in lengths) / sum(lengths) / 2
    architecture = catalogue.find(job.trial.trainee).architecture
    record = Trained(
        train_tokens=tokens,
        unique_tokens=sum(len(ids) for ids in {tuple(e.ids) for e in data}),
        train_flops=arithmetic.train_flops(architecture, training, tokens, context),
        train_loss=sum(e["loss"] for e in last_epoch) / len(last_epoch),
        steps=len(log),
        train_seconds=seconds,
        gpu_seconds=seconds * placement.n_workers if placement.device == "gpu" else 0.0,
        device=placement.device,
        device_name=device_name(placement.device),
        zero_stage=placement.zero_stage,
        n_workers=placement.n_workers,
    )
    job.ledger.mark_trained(job.key, pl.DataFrame(log), record)
