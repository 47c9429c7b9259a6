"""Each phase fails what no node can run, with the reason, before anything is spent on it."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from conftest import GPU_NODES
from made_records import TRAINED

from engine.cluster import session
from engine.evaluation import phase as evaluation
from engine.planning import plan
from engine.selfplay import phase as selfplay
from engine.storage.ledger import Ledger
from engine.storage.records import Planned
from engine.storage.store import Store
from engine.study import Study, grid
from engine.training import phase as training

WHY = "needs 1 GPUs of one node, the largest node has 0"


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(Store(str(tmp_path / "runs")))


@pytest.fixture
def planned(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> list[Planned]:
    """Planned for GPUs, of which the cluster has none any more; whoever starts something finds no Ray."""
    monkeypatch.setattr(session, "live_nodes", lambda: [{"Alive": True, "Resources": {"CPU": 8.0}}])
    cells: dict[str, Any] = {"trainees": ["qwen2.5-0.5b"], "domains": ["events"], "budgets": [1]}
    study = Study(name="s", trials=grid(protocols=["naive", "paraphrase"], **cells), n_items=1)
    return plan.plan(study, ledger, GPU_NODES)


def reasons(failures: list[Any]) -> dict[str, str]:
    return {failure.key.split("-")[1]: failure.reason for failure in failures}


def test_self_play_fails_the_trials_whose_generator_has_no_place(planned: list[Planned], ledger: Ledger) -> None:
    assert reasons(selfplay.run(planned, ledger)) == {"paraphrase": WHY}  # nothing is generated for the other


def test_training_fails_what_has_no_place(planned: list[Planned], ledger: Ledger) -> None:
    selfplay.run(planned, ledger)
    naive = [p for p in planned if p.trial.protocol == "naive"]
    assert reasons(training.run(naive, ledger)) == {"naive": "needs 1 GPUs, the cluster has 0"}


def test_evaluation_fails_what_has_no_place(planned: list[Planned], ledger: Ledger) -> None:
    for p in planned:
        ledger.begin(p, {})
        ledger.mark_trained(p.trial.key, pl.DataFrame({"step": [0]}), TRAINED)
    assert reasons(evaluation.run(planned, ledger)) == {"naive": WHY, "paraphrase": WHY}
    assert evaluation.run([], ledger) == []
