"""What a person can fix is said in plain lines, wherever it happened."""

import socket
from collections.abc import Sequence
from pathlib import Path

import pytest
from ray.exceptions import RayTaskError

from engine import UserError, pipeline
from engine.storage.ledger import Ledger
from engine.storage.records import Failure, Planned
from engine.storage.store import Store

TRACEBACK = """
ray::MapWorker(MapBatches(Writer)).submit()
  File "engine/storage/store.py", line 244, in _explain_errors
    raise StorageError(why) from error
engine.storage.store.StorageError: /runs/a: no space is left; free some
ValueError: engine.storage.store.StorageError: not this one
engine.training.divergence.Diverged: nor this one
"""


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(Store(str(tmp_path / "study")))


def fail_with(error: Exception, ledger: Ledger) -> None:
    """Runs a phase that ends with an error."""

    def run(planned: Sequence[Planned], ledger: Ledger) -> list[Failure]:
        raise error

    pipeline.run_phase("self-play", run, [], ledger)


def test_what_a_worker_said_to_its_user_is_said_without_its_traceback(ledger: Ledger) -> None:
    with pytest.raises(UserError) as said:
        fail_with(RayTaskError("write", TRACEBACK, ValueError()), ledger)
    assert str(said.value) == "/runs/a: no space is left; free some"


def test_other_errors_stay_what_they_are(ledger: Ledger) -> None:
    with pytest.raises(EOFError):
        fail_with(EOFError(), ledger)
    with pytest.raises(RayTaskError):
        fail_with(RayTaskError("write", "ValueError: 1", ValueError()), ledger)


def test_whatever_fails_while_storage_is_closed_is_said_to_be_that(ledger: Ledger, tmp_path: Path) -> None:
    ledger.store.write_json("a.json", 1)
    (tmp_path / "study/a.json").unlink()
    (tmp_path / "study").rmdir()
    (tmp_path / "study").write_text("")
    with pytest.raises(UserError, match="a part of this path is a file"):
        fail_with(EOFError(), ledger)


def test_a_machine_that_does_not_see_the_storage_is_named(tmp_path: Path) -> None:
    here, there = Store(str(tmp_path / "a")), Store(str(tmp_path / "b"))
    here.write_bytes("mark", b"")
    pipeline.prepare_node(here, "mark", [])
    with pytest.raises(UserError, match=f"/b: the machine {socket.gethostname()} does not see what the job's machine"):
        pipeline.prepare_node(there, "mark", [])
    assert not (tmp_path / "b").exists()
