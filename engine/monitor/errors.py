"""Errors of remote work as failures of trials: one line, the whole error, and where the logs are."""

import traceback

from engine.cluster import session
from engine.storage.records import Failure, Phase


def failure(key: str, phase: Phase, error: BaseException | None) -> Failure:
    """Why a trial did not finish, from the error that ended it, if there was one."""
    reason = last_line(error) if error else "ended without a result"
    details = "".join(traceback.format_exception(error)) if error else ""
    return Failure(key=key, phase=phase, reason=reason, details=details, logs=session.log_folder())


def last_line(error: BaseException) -> str:
    """The error in one line."""
    lines = "".join(traceback.format_exception_only(error)).strip().splitlines()
    return lines[-1] if lines else repr(error)
