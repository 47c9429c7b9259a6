"""How trials are shared out among engines, and whose failure it is when one of them ends."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from conftest import CPU
from made_records import SCORED, TRAINED

from engine.evaluation import phase
from engine.planning import plan
from engine.storage.ledger import Ledger
from engine.storage.records import Failure, Planned
from engine.storage.store import Store
from engine.study import Study, Training, Trial

TRIAL = Trial(trainee="smollm2-135m", domain="events", protocol="naive", precision="float32", forms=("choice",))
TABLE = pl.DataFrame({"a": [1]})


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(Store(str(tmp_path / "study")))


def plan_one(ledger: Ledger, trial: Trial = TRIAL) -> Planned:
    [planned] = plan.plan(Study(name="s", trials=(trial,), n_items=1), ledger, CPU)
    return planned


def test_each_full_fine_tune_of_a_base_fails_for_its_own_reason(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = [replace(TRIAL, seed=seed, training=Training(method="full")) for seed in (0, 1, 2)]
    group = [plan_one(ledger, trial) for trial in trials]

    def break_some(score: object, calls: list[Any], retries: int) -> list[BaseException | None]:
        """The base and the last trial are scored, the others not."""
        ended: list[BaseException | None] = []
        for _, (trials, bases, _) in calls:
            for p in bases:
                ledger.mark_untrained(p, TABLE)
            for p in trials:
                if p.trial.seed == 2:
                    ledger.mark_done(p.trial.key, TABLE, SCORED)
            broken = [p.trial.seed for p in trials if p.trial.seed != 2]
            ended.append(RuntimeError(f"shard {broken[0]} is damaged") if broken else None)
        return ended

    failures = score_with(break_some, group, ledger, monkeypatch)
    assert {key: f.reason for key, f in failures.items()} == {
        trials[0].key: "RuntimeError: shard 0 is damaged",
        trials[1].key: "RuntimeError: shard 1 is damaged",
    }
    assert {(f.phase, f.logs) for f in failures.values()} == {("evaluate", "/logs")}


def test_adapters_fail_with_their_base_and_only_the_base_is_asked_again(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = [plan_one(ledger, replace(TRIAL, seed=seed)) for seed in range(9)]

    def break_base(score: object, calls: list[Any], retries: int) -> list[BaseException | None]:
        """Two chunks: the one with the base ends when its trials are scored and the base is not."""
        for _, (trials, _, _) in calls:
            for p in trials:
                ledger.mark_done(p.trial.key, TABLE, SCORED)
        return [RuntimeError("no engine") if bases else None for _, (_, bases, _) in calls]

    failures = score_with(break_base, group, ledger, monkeypatch)
    assert {f.reason for f in failures.values()} == {"RuntimeError: no engine"}
    assert failures.keys() == {p.trial.key for p in group}
    [task] = phase.share_out(group, ledger)
    assert (len(task.trials), len(task.bases)) == (0, 1)


def score_with(
    run_on_workers: Any, group: list[Planned], ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Failure]:
    """Failures by key of an evaluation whose engines are replaced, on a cluster that has room for two of them."""
    for p in group:
        ledger.begin(p, {})
        ledger.mark_trained(p.trial.key, TABLE, TRAINED)
    monkeypatch.setattr(phase, "run_on_workers", run_on_workers)
    monkeypatch.setattr(phase.progress, "shown", lambda *_: nullcontext())
    monkeypatch.setattr(phase.reach, "wait_for_nodes", lambda needs: {})
    monkeypatch.setattr(phase.reach, "count_engines", lambda need: 2)
    monkeypatch.setattr("engine.cluster.session.log_folder", lambda: "/logs")
    return {f.key: f for f in phase.run(group, ledger)}
