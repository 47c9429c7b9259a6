"""Trains jobs on ranks of one machine without Ray, for tests: the same functions, in processes of our own."""

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from engine.training.job import Job, replay


def join(rank: int, port: int, ranks: int) -> None:
    """Makes this process a rank."""
    import torch.distributed as dist

    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": str(ranks)}
    os.environ |= {"LOCAL_RANK": str(rank), "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
    dist.init_process_group("gloo")


def train(rank: int, port: int, jobs: Sequence[Job], folder: Path) -> None:
    """Trains the jobs one after the other as one of their ranks; rank 0 writes `KEY.json`, the losses."""
    join(rank, port, jobs[0].placement.n_workers)
    for job in jobs:
        losses = train_one(job)
        if rank == 0:
            (folder / f"{job.trial.label}.json").write_text(json.dumps(losses))


def train_one(job: Job) -> list[float]:
    from engine.training import loop, saving

    engine = loop.build(job)
    losses = [step.loss for step in loop.train(engine, job, loop.encode(job, replay(job)))]
    saving.export(engine, job)
    return losses


def train_in_one_process(rank: int, port: int, jobs: Sequence[Job], folder: Path) -> None:
    """Trains the jobs as a crew does, each after the one before, into the ledger."""
    from engine.training import loop

    join(rank, port, jobs[0].placement.n_workers)
    base = None
    for job in jobs:
        base = loop.fine_tune(job, base)
        assert (base is None) == (job.trial.training.method == "full" or job.placement.zero_stage == 3)


def describe(rank: int, port: int, jobs: Sequence[Job], folder: Path) -> None:
    """Rank 0 writes `LABEL.json`: untrained loss, losses, rotary frequencies, and the adapters' types."""
    from engine.training import loop

    join(rank, port, jobs[0].placement.n_workers)
    for job in jobs:
        engine, data = loop.build(job), loop.encode(job, replay(job))
        found = {
            "untrained": loop.untrained_loss(engine, job, data),
            "losses": [step.loss for step in loop.train(engine, job, data)],
            "rotary": [b.double().tolist() for name, b in engine.module.named_buffers() if name.endswith("inv_freq")],
            "trained_types": sorted({str(p.dtype) for p in engine.module.parameters() if p.requires_grad}),
        }
        if rank == 0:
            (folder / f"{job.trial.label}.json").write_text(json.dumps(found))


def train_in_two_goes(rank: int, port: int, jobs: Sequence[Job], folder: Path) -> None:
    """Trains each job without and with an interruption after its second step; rank 0 writes `KEY.json`, both losses.

    The interrupted half goes on from the checkpoint in a new engine, and exports under a label with `-resumed`.
    """
    from engine.training import checkpoints, loop, saving

    join(rank, port, jobs[0].placement.n_workers)
    for job in jobs:
        whole, history = loop.build(job), loop.History(untrained_loss=20.0)
        kept = folder / job.trial.label
        kept.mkdir(exist_ok=True)
        for step in loop.train(whole, job, loop.encode(job, replay(job))):
            history.steps.append(step)
            if step.step == 1:
                checkpoints.write(whole, job, history, kept)
        saving.export(whole, job)
        again = replace(job, trial=replace(job.trial, label=f"{job.trial.label}-resumed"))
        engine = loop.build(again)
        resumed = checkpoints.restore(engine, again, kept)
        assert resumed is not None
        done = [step.loss for step in resumed.steps]
        done += [step.loss for step in loop.train(engine, again, loop.encode(again, replay(again)), first=len(done))]
        saving.export(engine, again)
        if rank == 0:
            losses = {"whole": [step.loss for step in history.steps], "resumed": done}
            (folder / f"{job.trial.label}.json").write_text(json.dumps(losses))


def try_to_resume(rank: int, port: int, jobs: Sequence[Job], kept: Sequence[Path], folder: Path) -> None:
    """Tries to go on from checkpoints; each rank writes `KEY-rankN.json`: the steps that it found, the first loss."""
    from engine.training import checkpoints, loop

    join(rank, port, jobs[0].placement.n_workers)
    for job, checkpoint in zip(jobs, kept, strict=True):
        engine, data = loop.build(job), loop.encode(job, replay(job))
        history = checkpoints.restore(engine, job, checkpoint)
        found = {"steps": history and len(history.steps), "loss": loop.untrained_loss(engine, job, data)}
        (folder / f"{job.trial.label}-rank{rank}.json").write_text(json.dumps(found))


def compare_untrained(rank: int, port: int, jobs: Sequence[Job], folder: Path) -> None:
    """Rank 0 writes `KEY.json`: the measured untrained loss, the mean over a training without updates, and losses."""
    from engine.training import loop

    join(rank, port, jobs[0].placement.n_workers)
    for job in jobs:
        still = replace(job, trial=replace(job.trial, training=replace(job.trial.training, learning_rate=0.0)))
        data, engine, other, unmeasured = (
            loop.encode(job, replay(job)),
            loop.build(job),
            loop.build(still),
            loop.build(job),
        )
        found = {
            "measured": loop.untrained_loss(engine, job, data),
            "losses": [step.loss for step in loop.train(engine, job, data)],
            "losses_unmeasured": [step.loss for step in loop.train(unmeasured, job, data)],
        }
        steps = [step.loss for step in loop.train(other, still, data)]
        if rank == 0:
            found["without_updates"] = sum(steps) / len(steps)
            (folder / f"{job.trial.label}.json").write_text(json.dumps(found))
