"""Ray workers that have room for an engine, and the environment that vLLM needs."""

from collections.abc import Callable, Sequence
from typing import Any

import ray

from engine.cluster import policy
from engine.cluster.machines import ServingPlacement
from engine.inference.settings import environment


def run_on_worker(function: Callable[..., Any], serving: ServingPlacement, *args: Any, retries: int = 0) -> Any:
    """The function's result. A worker that dies is replaced up to `retries` times. Raises ray.exceptions.RayError."""
    return ray.get(submit(function, serving, args, retries))


def run_on_workers(
    function: Callable[..., Any], calls: Sequence[tuple[ServingPlacement, tuple[Any, ...]]], retries: int
) -> list[BaseException | None]:
    """Calls a function many times, each as soon as the cluster has room for its engine: the errors, in this order.

    Those that come first start first. `retries`: as above.
    """
    tasks = [submit(function, serving, args, retries) for serving, args in calls]
    ray.wait(tasks, num_returns=len(tasks))
    return [find_error(task) for task in tasks]


def submit(function: Callable[..., Any], serving: ServingPlacement, args: Sequence[Any], retries: int) -> Any:
    """A task that starts where there is room for an engine."""
    [takes] = policy.list_bundles(serving)
    others = {kind: amount for kind, amount in takes.items() if kind not in ("CPU", "GPU")}
    # A process that ran an engine never gives all of its memory back: none is used twice.
    task: Any = ray.remote(max_calls=1)(function).options(
        num_cpus=takes.get("CPU", 0),
        num_gpus=takes.get("GPU", 0),
        resources=others,
        max_retries=retries,
        runtime_env={"env_vars": environment(serving)},
    )
    return task.remote(*args)


def find_error(task: Any) -> BaseException | None:
    """What ended a task that is over, unless it succeeded."""
    try:
        ray.get(task)
    except ray.exceptions.RayError as error:
        return error
    return None
