"""Engram: what news leaves behind in a model's weights, and what that costs.

The rooms, in the order in which data flows: `news`, `study.py`, `planning`, `selfplay`, `training`, `evaluation`,
`results.py`; `pipeline.py` runs them. `models`, `inference`, `storage`, `cluster` and `monitor` serve all of them;
`authoring` is for people who write news.
"""

import os


class UserError(Exception):
    """Something that the user of a command can fix. The message has one line per fault and says what to do.

    Every error of this kind derives from it, so that any other exception is a bug of ours and shows its traceback.
    """


# Ray reads its environment when it is imported, in the driver and in every worker. Set here, it does not matter in
# which order a job imports its parts.
RAY_DEFAULTS = {
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
for _name, _value in RAY_DEFAULTS.items():
    os.environ.setdefault(_name, _value)
