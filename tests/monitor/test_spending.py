"""Node-hours go on from those of earlier runs; all nodes that are up count."""

from pathlib import Path
from typing import Any

import pytest

from engine.cluster import session
from engine.monitor.spending import Meter
from engine.storage.ledger import Ledger
from engine.storage.store import Store

HEAD = {"NodeID": "a", "Alive": True, "Resources": {"CPU": 8.0}}
LARGE = {"NodeID": "b", "Alive": True, "Resources": {"GPU": 8.0, "accelerator_type:H100": 1.0}}
NAMELESS = {"NodeID": "c", "Alive": True, "Resources": {"GPU": 1.0}}


def test_hours_of_all_runs_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, now = Ledger(Store(str(tmp_path))), 0.0
    up: list[Any] = [HEAD]
    monkeypatch.setattr(session, "live_nodes", lambda: up)
    monkeypatch.setattr("time.monotonic", lambda: now)
    for _ in range(2):  # the second run goes on from the first
        meter = Meter(ledger)
        for nodes in ([HEAD], [HEAD, LARGE, LARGE, NAMELESS]):
            up[:], now = nodes, now + 1800
            meter.tick()
        now += 7200  # between two runs nothing is counted
    assert ledger.spent().node_hours == pytest.approx({"CPUs": 2.0, "8 × H100": 2.0, "1 × GPU": 1.0})
