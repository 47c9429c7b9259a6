"""A Ray worker that has room for an engine, and the environment that vLLM needs."""

from collections.abc import Callable
from typing import Any

from engine.cluster.machines import ServingPlacement
from engine.inference.settings import environment


def run_on_worker(function: Callable[..., Any], serving: ServingPlacement, *args: Any, retries: int = 0) -> Any:
    """The function's result. A worker that dies is replaced up to `retries` times. Raises ray.exceptions.RayError."""
    import ray

    takes: dict[str, Any] = {"num_gpus": serving.tensor_parallel} if serving.device == "gpu" else {"num_cpus": 1}
    takes |= {"accelerator_type": serving.accelerator} if serving.accelerator else {}
    # A process that ran an engine never gives all of its memory back: none is used twice.
    task: Any = ray.remote(max_calls=1)(function).options(
        max_retries=retries, runtime_env={"env_vars": environment(serving)}, **takes
    )
    return ray.get(task.remote(*args))
