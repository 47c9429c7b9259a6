"""Trains jobs on ranks of one machine without Ray, for tests: the same functions, in processes of our own."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from engine.training.job import Job


def train(rank: int, port: int, jobs: Sequence[Job], folder: Path) -> None:
    """Trains the jobs one after the other as one of their ranks; rank 0 writes `KEY.json`, the losses."""
    import torch.distributed as dist

    ranks = str(jobs[0].placement.n_workers)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": ranks}
    os.environ |= {"LOCAL_RANK": str(rank), "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
    dist.init_process_group("gloo")
    for job in jobs:
        losses = train_one(job)
        if rank == 0:
            (folder / f"{job.trial.label}.json").write_text(json.dumps(losses))


def train_one(job: Job) -> list[float]:
    from engine.training import loop, saving

    engine = loop.build(job)
    losses = [step.loss for step in loop.train(engine, job, loop.encode(job))]
    saving.export(engine, job)
    return losses
