"""Fine-tuning: all trials of a study on a Ray cluster. Ray Tune schedules them, Ray Train runs each.

    python jobs/finetune.py --study quickstart

First in, first out: stopping trials early would bias the laws that are fitted to them. Which trials run together is
decided in `engine.cluster.policy`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import ray

from engine.cluster import policy, reach, session
from engine.monitor import errors, progress
from engine.storage.ledger import Ledger
from engine.storage.records import Failure, Planned
from engine.training.job import Job, count_elements, why_too_few


def run(planned: Sequence[Planned], ledger: Ledger) -> list[Failure]:
    """Fine-tunes all of these trials that are not trained, in their order; gives those that failed."""
    todo = [p for p in planned if not ledger.is_trained(p.trial.key)]
    counts = {name: count_elements(name, ledger) for name in {p.trial.pool for p in todo}}
    reasons = {p.trial.key: why_untrainable(p, counts[p.trial.pool]) for p in todo}
    jobs = [Job(trial=p.trial, items=p.items, placement=p.training, ledger=ledger) for p in todo]
    failures = [Failure(key=key, phase="fine-tune", reason=why) for key, why in reasons.items() if why]
    return failures + train_all([job for job in jobs if not reasons[job.key]], ledger)


def why_untrainable(p: Planned, counts: Mapping[str, int] | None) -> str | None:
    """Why there is no use in training this trial, whose pool has so many elements of each item."""
    if not p.serving.fits:
        return f"could not be asked in vLLM afterwards: {p.serving.reason}"
    return why_too_few(p, counts)


def train_all(jobs: Sequence[Job], ledger: Ledger) -> list[Failure]:
    """Fine-tunes jobs, given longest first, in groups of equal need; gives those that failed."""
    by_key = {job.key: job for job in jobs}
    reasons = reach.wait_for_nodes({key: job.placement for key, job in by_key.items()})
    failures = [Failure(key=key, phase="fine-tune", reason=why) for key, why in reasons.items()]
    needs = {key: job.placement for key, job in by_key.items() if key not in reasons}
    for group in policy.group_by_need(needs):
        failures += train_group([by_key[key] for key in group], ledger)
    return failures


def train_group(jobs: Sequence[Job], ledger: Ledger) -> list[Failure]:
    """One Tune experiment over jobs of equal need."""
    from ray import tune
    from ray.tune import CheckpointConfig, FailureConfig, RunConfig, TuneConfig, Tuner

    from engine.training.driver import Driver

    jobs, together = share_threads(jobs)
    by_key = {job.key: ray.put(job) for job in jobs}
    tuner = Tuner(
        tune.with_resources(tune.with_parameters(Driver, jobs=by_key), {"CPU": 0.01}),
        param_space={"key": tune.grid_search(list(by_key))},
        tune_config=TuneConfig(max_concurrent_trials=together, reuse_actors=True),
        run_config=RunConfig(
            name="tune",
            storage_path=ledger.tune_address(),
            failure_config=FailureConfig(max_failures=1),  # of a driver's process; other errors are its own to handle
            checkpoint_config=CheckpointConfig(checkpoint_at_end=False),
            callbacks=[errors_as_text()],
            verbose=0,
        ),
    )
    with progress.shown("fine-tune", len(jobs), ledger, sum(map(count_work, jobs))):
        results: Any = tuner.fit()
    ledger.clear_tune()
    told = {r.config["key"]: (r.metrics or {}).get("error") or r.error for r in results}
    raised = {key: RuntimeError(str(text)) for key, text in told.items() if text}
    return [f for f in (outcome(job.key, raised.get(job.key), ledger) for job in jobs) if f]


def count_work(job: Job) -> int:
    """Elements that its training goes through, as often as it does."""
    return len(job.items) * job.trial.budget * job.trial.training.epochs


def errors_as_text() -> Any:
    """Lets Tune read a trial's error as text: it would load a pickle from the storage, which can run code."""
    from ray.tune import Callback

    class ErrorsAsText(Callback):
        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            trial.run_metadata.pickled_error_filename = None

    return ErrorsAsText()


def share_threads(jobs: Sequence[Job]) -> tuple[list[Job], int]:
    """The jobs with the threads that each may use, and how many of them run at once."""
    need = jobs[0].placement
    together = policy.n_together(len(jobs), need, session.free_resources(), session.largest_resources())
    shared = replace(need, threads=max(1, need.threads // together))
    return [replace(job, placement=replace(job.placement, threads=shared.threads)) for job in jobs], together


def outcome(key: str, error: BaseException | None, ledger: Ledger) -> Failure | None:
    """How a trial ended, from its files first: they are what the next phase reads."""
    if ledger.is_trained(key):
        return None
    return ledger.failure(key) or errors.failure(key, "fine-tune", error)
