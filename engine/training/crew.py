"""Workers that live on: one run of Ray Train trains many trials, one after the other.

A trial's start (processes, imports, the model's weights) takes longer than a small trial's training. So trials that
share a model, a method and a placement are trained by the same processes: Ray Tune schedules each trial, its driver
puts the trial's job on a desk, and all workers take it from there. An adapter, its optimizer, schedule and seed are new
for each trial; the untrained model, which adapters leave as it was, is loaded once.
"""

import asyncio
import threading
import uuid
from contextlib import nullcontext
from typing import Any

import ray
import ray.train
from ray.train import ScalingConfig
from ray.train.torch import TorchTrainer

from engine import UserError
from engine.monitor import errors, progress
from engine.training.backend import ClosedTorchConfig
from engine.training.job import Job, environment, has_ended

MOST_JOBS = 64  # of one crew: whatever a process accumulates, it ends with it
RESTARTS = 2  # of a crew whose workers die; it then goes on with the trial that they were at
POLL_S = 1.0


class Hopeless(Exception):
    """What only the user can mend, such as a full disk; the text is the worker's error in full."""


class Desk:
    """An actor: jobs in their order. Each of a crew's workers takes each of them; None sends them home."""

    def __init__(self) -> None:
        self.jobs: list[Job | None] = []
        self.done = 0
        self.starts = 0
        self.fault = ""
        self.changed = asyncio.Condition()

    async def put(self, job: Job | None) -> None:
        """Adds a job."""
        self.jobs.append(job)
        await self.tell()

    async def take(self, number: int) -> Job | None:
        """The job of this number, as soon as there is one; None after a fault."""
        await self.until(lambda: len(self.jobs) > number or self.fault)
        return None if self.fault else self.jobs[number]

    async def finish(self, number: int) -> None:
        """The job of this number is done."""
        self.done = max(self.done, number + 1)
        await self.tell()

    async def give_up(self, fault: str) -> None:
        """A worker met what no other worker would mend: nothing more is done."""
        self.fault = fault
        await self.tell()

    async def wait(self, number: int) -> str:
        """Returns when the job of this number is done: nothing, or the fault that ended it."""
        await self.until(lambda: self.done > number or self.fault)
        return "" if self.done > number else self.fault

    async def start(self) -> int:
        """A worker starts: with which job?"""
        self.starts += 1
        return self.done

    async def n_starts(self) -> int:
        """How many workers have started."""
        return self.starts

    async def until(self, what: Any) -> None:
        """Waits for a change after which it is true."""
        async with self.changed:
            await self.changed.wait_for(what)

    async def tell(self) -> None:
        """Wakes all that wait."""
        async with self.changed:
            self.changed.notify_all()


def kind_of(job: Job) -> tuple[Any, ...]:
    """What jobs of one crew share: all that its processes are bound to."""
    trial, at = job.trial, job.placement
    same = (trial.trainee, trial.precision, trial.training.method)
    return (*same, at.device, at.accelerator, at.threads, at.n_workers, at.zero_stage, at.recompute)


class Crew:
    """A run of Ray Train, in a thread of this process, whose workers take jobs until they are sent home."""

    def __init__(self, job: Job) -> None:
        """Starts the workers for jobs like this one."""
        self.kind, self.n_workers, self.n_jobs = kind_of(job), job.placement.n_workers, 0
        self.desk: Any = ray.remote(num_cpus=0)(Desk).remote()
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self.run, args=(job,), daemon=True)
        self.thread.start()

    def run(self, job: Job) -> None:
        """The run of Ray Train, from its start to its end."""
        try:
            make_trainer(job, self.desk).fit()
        except BaseException as error:  # handed to whoever waits for a job
            self.error = error

    def takes(self, job: Job) -> bool:
        """May these workers train this job, too? After a fault, new ones do."""
        sound = self.thread.is_alive() and ray.get(self.desk.n_starts.remote()) <= self.n_workers
        return sound and self.n_jobs < MOST_JOBS and kind_of(job) == self.kind

    def train(self, job: Job) -> None:
        """Trains one trial. Raises Hopeless, or what ended the run before the trial was done."""
        number, self.n_jobs = self.n_jobs, self.n_jobs + 1
        ray.get(self.desk.put.remote(job))
        done = self.desk.wait.remote(number)
        while not ray.wait([done], timeout=POLL_S)[0]:
            if not self.thread.is_alive():
                raise self.error or RuntimeError(f"the workers ended before {job.key} was done")
        if fault := ray.get(done):
            raise Hopeless(fault)

    def end(self) -> None:
        """Sends the workers home, and frees what they held."""
        ray.get(self.desk.put.remote(None))
        self.thread.join()


def make_trainer(job: Job, desk: Any) -> TorchTrainer:
    """Ray Train's trainer for a crew. Its folder holds nothing that is needed later: checkpoints are the ledger's."""
    gpu = job.placement.device == "gpu"
    # A little less than a core, so that the trials' drivers, which take next to nothing, find room beside the workers.
    takes = {"GPU": 1.0} if gpu else {"CPU": 0.9}
    v2: Any = ray.train  # its classes of these names have more fields than those that a type checker sees
    return TorchTrainer(
        lambda: work(desk),
        torch_config=ClosedTorchConfig(),
        scaling_config=ScalingConfig(
            num_workers=job.placement.n_workers,
            use_gpu=gpu,
            resources_per_worker=takes,
            accelerator_type=job.placement.accelerator or None,
        ),
        run_config=v2.RunConfig(
            name=f"crew-{uuid.uuid4().hex}",
            storage_path=job.ledger.crews_address(),
            failure_config=v2.FailureConfig(max_failures=RESTARTS, controller_failure_limit=1),
            worker_runtime_env={"env_vars": environment(job.placement)},
        ),
    )


def work(desk: Any) -> None:
    """A worker: trains job after job. The code of the training is imported here, and nowhere else."""
    from engine.training import loop

    base, number, first = None, ray.get(desk.start.remote()), ray.train.get_context().get_world_rank() == 0
    while (job := ray.get(desk.take.remote(number))) is not None:
        try:
            with progress.at_work(job.key) if first else nullcontext():
                base = base if has_ended(job) else loop.fine_tune(job, base)
        except UserError as error:
            ray.get(desk.give_up.remote(errors.in_full(error)))
            raise
        if first:
            ray.get(desk.finish.remote(number))
        number += 1
