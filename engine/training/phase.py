"""The fine-tunes of a study on a Ray cluster: Ray Tune schedules them, Ray Train runs each.

Trials that need the same resources run together, as many as the cluster holds, the longest first; the groups follow
each other, since Tune does not see what the inner Train takes, and a large trial must not wait for ever behind small
ones. First in, first out: stopping trials early would bias the laws that are fitted to them.
"""

import traceback
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import ray

from engine import finetune, progress
from engine.finetune import Job
from engine.plan import Failure
from engine.store import Store

ATTEMPTS = 2  # of a trial whose driver fails; dead workers are replaced within an attempt


def run(jobs: Sequence[Job], store: Store) -> list[Failure]:
    """Fine-tunes all jobs, given longest first; gives those that failed. Their reasons are recorded in the store."""
    for job in jobs:
        store.remove(f"trials/{job.key}/failure.json")
    failed = [Failure(key=j.key, reason=why) for j in jobs if (why := unplaceable(j))]
    hopeless = {f.key for f in failed}
    for group in by_need([j for j in jobs if j.key not in hopeless]):
        failed += run_group(group, store)
    for failure in failed:
        store.write_json(f"trials/{failure.key}/failure.json", {"reason": failure.reason})
    return failed


def by_need(jobs: Sequence[Job]) -> list[list[Job]]:
    """The jobs in groups of equal need, in the order in which they come."""
    groups: dict[tuple[str, int], list[Job]] = {}
    for job in jobs:
        groups.setdefault((job.profile.device, job.profile.n_workers), []).append(job)
    return list(groups.values())


def unplaceable(job: Job) -> str | None:
    """Why the cluster can never run the job, even grown as far as its autoscaler may; None if it can."""
    if not job.profile.fits:
        return f"does not fit: {job.profile.reason}"
    kind = "GPU" if job.profile.device == "gpu" else "CPU"
    there = largest_cluster().get(kind, 0.0)
    return (
        None if there >= job.profile.n_workers else f"needs {job.profile.n_workers} {kind}s, the cluster has {there:g}"
    )


def largest_cluster() -> dict[str, float]:
    """The cluster's resources now, or as far as its autoscaler may grow it."""
    from ray._private.state import state

    now, most = ray.cluster_resources(), state.get_max_resources_from_cluster_config() or {}
    return {kind: max(now.get(kind, 0.0), float(most.get(kind, 0.0))) for kind in now.keys() | most.keys()}


def at_once(jobs: Sequence[Job]) -> int:
    """How many of these jobs run together. On CPU the cores are shared out, so that no two fight for one."""
    job = jobs[0]
    if job.profile.device == "cpu":
        room = int(ray.available_resources().get("memory", 0) / (job.profile.memory_gib * 2**30))
        return max(1, min(len(jobs), job.profile.threads, room))
    return max(1, int(largest_cluster()["GPU"] // job.profile.n_workers))


def run_group(jobs: Sequence[Job], store: Store) -> list[Failure]:
    """One Tune experiment over jobs of equal need."""
    from ray import tune
    from ray.tune import FailureConfig, RunConfig, TuneConfig, Tuner

    together = at_once(jobs)
    jobs = [replace(j, profile=replace(j.profile, threads=max(1, j.profile.threads // together))) for j in jobs]
    by_key = {j.key: ray.put(j) for j in jobs}
    tuner = Tuner(
        tune.with_resources(tune.with_parameters(fine_tune, jobs=by_key), {"CPU": 0.01}),
        param_space={"key": tune.grid_search(list(by_key))},
        tune_config=TuneConfig(max_concurrent_trials=together, reuse_actors=False),
        run_config=RunConfig(
            name="tune",
            storage_path=store.address(""),
            failure_config=FailureConfig(max_failures=ATTEMPTS - 1),
            verbose=0,
        ),
    )
    with progress.shown("fine-tune", len(jobs)):
        results: Any = tuner.fit()
    store.remove("tune")
    errors = {r.config["key"]: r.error for r in results if r.error}
    return [f for f in (outcome(j.key, errors.get(j.key), store) for j in jobs) if f]


def fine_tune(config: dict[str, str], jobs: dict[str, Any]) -> None:
    """One trial, in Tune's process: an inner Ray Train run, whose result stands in the store when it ends."""
    from ray import tune

    job: Job = ray.get(jobs[config["key"]])
    progress.report(running=1)
    try:
        if not finished(job, job.store):
            finetune.trainer(job).fit()
        job.store.remove(f"trials/{job.key}/train")
        progress.report(done=1)
    finally:
        progress.report(running=-1)
    tune.report({"key": job.key})


def finished(job: Job, store: Store) -> bool:
    """Is the job's result there, be it that it diverged?"""
    return any(store.exists(f"trials/{job.key}/{file}") for file in ("trained.json", "failure.json"))


def outcome(key: str, error: BaseException | None, store: Store) -> Failure | None:
    """What became of a trial, from its files first: they are what the next phase reads."""
    if store.exists(f"trials/{key}/trained.json"):
        return None
    if store.exists(f"trials/{key}/failure.json"):
        return Failure(key=key, reason=store.read_json(f"trials/{key}/failure.json")["reason"])
    return Failure(key=key, reason=last_line(error) if error else "ended without a result")


def last_line(error: BaseException) -> str:
    """The error in one line."""
    lines = "".join(traceback.format_exception_only(error)).strip().splitlines()
    return lines[-1] if lines else repr(error)
