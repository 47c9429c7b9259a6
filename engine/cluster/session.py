"""Ray for a job: the cluster that is there, or one on this machine for as long as the job runs."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from engine import RAY_DEFAULTS


@contextmanager
def running() -> Iterator[None]:
    """Connects to the cluster that RAY_ADDRESS or a submitted job names, else starts one on this machine's loopback.

    The dashboard runs in either case: without it Tune does not free the resources of trials that it stops.
    """
    local = "RAY_ADDRESS" not in os.environ
    if local:
        # ray.init() would otherwise leave a token behind that changes what `ray start` does.
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    import ray

    # "local", since Ray would otherwise connect to whatever cluster was last started on this machine.
    own: dict[str, Any] = {"address": "local", "include_dashboard": True, "dashboard_host": "127.0.0.1"}
    options = own if local else {}
    env = {"env_vars": {name: os.environ[name] for name in RAY_DEFAULTS}}
    ray.init(log_to_driver=False, logging_level=logging.ERROR, runtime_env=env, namespace="engram", **options)
    try:
        yield
    finally:
        ray.shutdown()


def free_resources() -> dict[str, float]:
    """What is free on the cluster now, by Ray's names."""
    import ray

    return dict(ray.available_resources())


def largest_resources() -> dict[str, float]:
    """The cluster's resources now, or as far as its autoscaler may grow it."""
    import ray
    from ray._private.state import state

    now, most = ray.cluster_resources(), state.get_max_resources_from_cluster_config() or {}
    return {kind: max(now.get(kind, 0.0), float(most.get(kind, 0.0))) for kind in now.keys() | most.keys()}


def log_folder() -> str:
    """Where Ray keeps the logs of its workers, on each machine of the cluster."""
    from ray._private.worker import global_worker

    return str(global_worker.node.get_logs_dir_path()) if global_worker.node else ""
