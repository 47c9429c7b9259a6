"""Ray for a job: the cluster that is there, or one of this machine for as long as the job runs."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

QUIET = {
    # Two messages that Ray prints on every such job and that ask nothing of its user: Ray Data's actors take arguments
    # from the object store, and idle workers of finished trials outnumber a laptop's cores.
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DEDUP_LOGS_SKIP_REGEX": "PYTHON worker processes have been started",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "600",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "PYTHONWARNINGS": "ignore",
}


@contextmanager
def running() -> Iterator[None]:
    """Connects to the cluster that RAY_ADDRESS or a submitted job names, else starts one on this machine's loopback.

    The dashboard runs in either case: without it Tune does not free the resources of trials that it stops.
    Ray reads its environment when it is imported: what imports it is to be imported inside.
    """
    local = "RAY_ADDRESS" not in os.environ
    # On loopback nobody else is there, and ray.init() would leave a token behind that changes what `ray start` does.
    for name, value in (QUIET | ({"RAY_AUTH_MODE": "disabled"} if local else {})).items():
        os.environ.setdefault(name, value)
    import ray

    options: dict[str, Any] = {"include_dashboard": True, "dashboard_host": "127.0.0.1"} if local else {}
    env = {"env_vars": {k: os.environ[k] for k in QUIET}}
    ray.init(log_to_driver=False, logging_level=logging.ERROR, runtime_env=env, namespace="engram", **options)
    try:
        yield
    finally:
        ray.shutdown()
