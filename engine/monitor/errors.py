"""Errors of remote work as failures of trials: one line, the whole error, and where the logs are."""

import errno
import os
import shutil
import traceback

from engine.cluster import session
from engine.storage.records import Failure, Phase
from engine.storage.store import REMEDIES, StorageError, Store

SHARED_MEMORY = "/dev/shm"


def failure(key: str, phase: Phase, error: BaseException | None) -> Failure:
    """Why a trial did not finish, from the error that ended it, if there was one."""
    reason = last_line(error) if error else "ended without a result"
    details = in_full(error) if error else ""
    return Failure(key=key, phase=phase, reason=reason, details=details, logs=session.log_folder())


def last_line(error: BaseException) -> str:
    """The error in one line."""
    lines = "".join(traceback.format_exception_only(error)).strip().splitlines()
    return lines[-1] if lines else repr(error)


def in_full(error: BaseException) -> str:
    """The error with its traceback."""
    return "".join(traceback.format_exception(error))


def check_room(text: str, store: Store) -> None:
    """Raises StorageError if an error's text tells of a full disk; it names the fullest of those that a run writes to.

    Libraries tell of one in errors of many kinds, often without the path, and then free what they had written.
    """
    if os.strerror(errno.ENOSPC) not in text:
        return
    remedies = {
        store.root: REMEDIES[errno.ENOSPC],
        session.log_folder(): "no space is left for Ray's own files; free some",
        SHARED_MEMORY: "no space is left for what processes share; free some, or make it larger",
    }
    rooms = {path: shutil.disk_usage(path).free for path in remedies if os.path.isdir(path)}
    fullest = min(rooms, key=lambda path: rooms[path])
    raise StorageError(f"{fullest}: {remedies[fullest]}, then run the same command again")
