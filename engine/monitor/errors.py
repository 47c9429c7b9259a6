"""Errors of remote work as failures of trials: one line, the whole error, and where the logs are."""

import errno
import os
import shutil
import traceback

from engine.cluster import session
from engine.storage.records import Failure, Phase
from engine.storage.store import REMEDIES, StorageError, Store


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
    """Raises StorageError if an error's text tells of a full disk; it names the fuller of the disks that a run writes.

    Libraries tell of one in errors of many kinds, often without the path, and then free what they had written.
    """
    if os.strerror(errno.ENOSPC) not in text:
        return
    logs, room = session.log_folder(), store.free_bytes()
    if room is None or (logs and shutil.disk_usage(logs).free < room):
        raise StorageError(f"{logs}: no space is left for Ray's own files; free some, then run the same command again")
    raise StorageError(f"{store.root}: {REMEDIES[errno.ENOSPC]}, then run the same command again")
