"""Engram: what news leaves behind in a model's weights, and what that costs.

The rooms, in the order in which data flows: `news`, `study.py`, `planning`, `selfplay`, `training`, `evaluation`,
`results.py`; `pipeline.py` runs them. `models`, `inference`, `storage`, `cluster` and `monitor` serve all of them;
`authoring` is for people who write news.
"""

import os
import sys
import tempfile


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
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the job, not only what Tune is doing
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "PYTHONWARNINGS": "ignore",
}
for _name, _value in RAY_DEFAULTS.items():
    os.environ.setdefault(_name, _value)

# Only this user can enter the folder. `engine.cluster.loopback` makes both for as long as a local Ray runs.
PRIVATE_FOLDER = os.path.join(tempfile.gettempdir(), f"engram-{os.getuid()}")
TOKEN_FILE = os.path.join(PRIVATE_FOLDER, f"token-{os.getpid()}")
# A driver without a cluster starts a Ray of its own, closed to everybody else: it listens on loopback only (the switch
# that Ray has for macOS and Windows) and asks for a token. Workers, which import Ray first, keep what they were given.
STARTS_OWN_RAY = "RAY_ADDRESS" not in os.environ and "ray" not in sys.modules
if STARTS_OWN_RAY:
    os.environ.pop("RAY_AUTH_TOKEN", None)
    os.environ |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": TOKEN_FILE}
