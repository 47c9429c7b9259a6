"""A trial in Ray Tune's process: its job goes to a crew of workers, and its result is in the ledger when it ends."""

from collections.abc import Mapping
from typing import Any

import ray
from ray import tune

from engine.monitor import errors, progress
from engine.training.crew import Crew, Hopeless
from engine.training.job import Job, has_ended

ATTEMPTS = 2  # of a trial whose crew fails; dead workers are replaced within an attempt


class Driver(tune.Trainable):
    """Ray Tune gives one process trial after trial; the crew lives on between them."""

    def setup(self, config: dict[str, str], jobs: Mapping[str, Any]) -> None:  # type: ignore[override]
        """`jobs`: those of all trials, as references, by key; `tune.with_parameters` adds them."""
        self.jobs = jobs
        self.crew: Crew | None = None

    def reset_config(self, new_config: dict[str, str]) -> bool:
        """Takes the next trial."""
        self.config = new_config
        return True

    def step(self) -> dict[str, Any]:
        """The whole trial; its result has the error of the last attempt, if it failed.

        Not raised: Tune would keep it as a file on the storage, which may be what is full, and try no other crew.
        """
        job: Job = ray.get(self.jobs[self.config["key"]])
        progress.report(running=1)
        error = self.attempt(job, ATTEMPTS)
        progress.report(running=-1, done=0 if error else 1)
        return {"key": job.key, "error": error, "done": True}

    def attempt(self, job: Job, times: int) -> str:
        """Trains the trial unless that is done; gives the error, if there was one the last time."""
        try:
            if not has_ended(job):
                self.crew_for(job).train(job)
            job.ledger.clear_checkpoints(job.key)
        except Exception as error:
            self.crew = None
            hopeless = isinstance(error, Hopeless) or times == 1
            return errors.in_full(error) if hopeless else self.attempt(job, times - 1)
        return ""

    def crew_for(self, job: Job) -> Crew:
        """The crew that is there, if it may train this job, else a new one."""
        if self.crew and not self.crew.takes(job):
            self.cleanup()
        self.crew = self.crew or Crew(job)
        return self.crew

    def cleanup(self) -> None:
        """Called at the end of the last trial, too."""
        if self.crew:
            self.crew.end()
        self.crew = None
