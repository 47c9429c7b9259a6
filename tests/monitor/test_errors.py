"""A full disk is told from other errors, whatever library met it, and the message names the disk that is full."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from engine.cluster import session
from engine.monitor import errors
from engine.storage.store import MIB, StorageError, Store

# As Ray Train raises it from pyarrow, without a path.
FULL = "OSError: [Errno 28] Error writing bytes to file. Detail: [errno 28] No space left on device"


@pytest.mark.parametrize(("storage_mib", "temp_mib", "fuller"), [(3, 900, "runs"), (900, 3, "logs")])
def test_the_fuller_disk_is_named(
    storage_mib: int, temp_mib: int, fuller: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, logs = tmp_path / "runs", tmp_path / "logs"
    free = {str(runs): storage_mib * MIB, str(logs): temp_mib * MIB}
    for folder in (runs, logs):
        folder.mkdir()
    monkeypatch.setattr(session, "log_folder", lambda: str(logs))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free[str(folder)]))
    with pytest.raises(StorageError, match=rf"^{tmp_path / fuller}: no space is left"):
        errors.check_room(FULL, Store(str(runs)))


def test_other_errors_are_not_taken_for_a_full_disk(tmp_path: Path) -> None:
    errors.check_room("OSError: [Errno 13] Permission denied: '/tmp/x'", Store(str(tmp_path)))
