"""Room: what a run will write is known before it starts."""

from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import CPU

from engine.models import catalogue
from engine.models.architecture import n_params, n_params_lora
from engine.planning import plan, room
from engine.planning.plan import Refused
from engine.storage.ledger import Ledger
from engine.storage.records import Planned
from engine.storage.store import Store
from engine.study import Sampling, Study, Training, Trial

TRIAL = Trial(trainee="smollm2-135m", domain="events", protocol="paraphrase", sampling=Sampling(max_tokens=100))
FULL = replace(TRIAL, training=Training(method="full"), precision="bfloat16")
ARCHITECTURE = catalogue.find("smollm2-135m").architecture
Usage = namedtuple("Usage", "total used free")


def plan_all(tmp_path: Path, *trials: Trial) -> tuple[list[Planned], Store]:
    ledger = Ledger(Store(str(tmp_path / "runs")))
    return plan.plan(Study(name="s", trials=trials, n_items=3), ledger, CPU), ledger.store


def test_what_is_written_is_counted_by_hand(tmp_path: Path) -> None:
    planned, _ = plan_all(tmp_path, TRIAL, replace(TRIAL, budget=4), FULL)
    n_lora, n_full = n_params_lora(ARCHITECTURE, 16), n_params(ARCHITECTURE)
    assert room.needed_bytes(planned) == {
        "weights": 2 * 4 * n_lora + 2 * n_full,
        "checkpoints": 2 * 14 * n_full,
        "pools": 2 * 8 * 3 * 100 * 4 * 2,  # two pools: the budget of 4 is part of the budget of 8
        "records": 3 * 2 * 2**20,
    }


def test_what_is_there_is_not_counted_again(tmp_path: Path) -> None:
    [p], _ = plan_all(tmp_path, TRIAL)
    assert sum(room.needed_bytes([replace(p, state="done")]).values()) == 0
    trained = room.needed_bytes([replace(p, state="trained")])
    assert (trained["weights"], trained["checkpoints"]) == (0, 0)
    assert trained["records"] > 0


def test_too_little_room_is_refused_with_what_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned, store = plan_all(tmp_path, TRIAL)
    needed = int(sum(room.needed_bytes(planned).values()))
    room.check(planned, store)
    for free, refused in ((needed + 1, False), (needed - 1, True)):
        monkeypatch.setattr("shutil.disk_usage", lambda path, free=free: Usage(0, 0, free))
        if refused:
            with pytest.raises(Refused, match=r"runs: not enough room.*weights .*MiB.*Free some, or use another"):
                room.check(planned, store)
        else:
            room.check(planned, store)


def test_object_storage_has_room(tmp_path: Path) -> None:
    planned, _ = plan_all(tmp_path, TRIAL)
    room.check(planned, Store("memory://bucket/study"))
    assert "free" not in room.describe(planned, Store("memory://bucket/study"))
