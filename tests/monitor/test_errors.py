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


@pytest.mark.parametrize("full", ["runs", "logs", "shared"])
def test_the_fullest_disk_is_named(full: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("runs", "logs", "shared"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(session, "log_folder", lambda: str(tmp_path / "logs"))
    monkeypatch.setattr(errors, "SHARED_MEMORY", str(tmp_path / "shared"))
    free = {str(tmp_path / full): 3 * MIB}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free.get(path, 900 * MIB)))
    with pytest.raises(StorageError, match=rf"^{tmp_path / full}: no space is left"):
        errors.check_room(FULL, Store(str(tmp_path / "runs")))


def test_other_errors_are_not_taken_for_a_full_disk(tmp_path: Path) -> None:
    errors.check_room("OSError: [Errno 13] Permission denied: '/tmp/x'", Store(str(tmp_path)))
