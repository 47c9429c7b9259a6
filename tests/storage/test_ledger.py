"""The ledger: the state of a trial from its files, typed records, failures that are forgotten in time."""

import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from conftest import CPU

from engine.evaluation import phase as evaluation
from engine.planning import plan
from engine.storage.ledger import Ledger
from engine.storage.records import Failure, Planned, RecordError, Scored, Trained
from engine.storage.store import Store
from engine.study import Study, Training, Trial

TRIAL = Trial(trainee="smollm2-135m", domain="events", protocol="naive", forms=("choice",))
TRAINED = Trained(
    train_tokens=10,
    unique_tokens=5,
    train_flops=1e9,
    untrained_loss=2.0,
    train_loss=1.0,
    steps=2,
    train_seconds=3.0,
    gpu_seconds=0.0,
    device="cpu",
    device_name="a CPU",
    zero_stage=0,
    n_workers=1,
    weight_files={},
)
SCORED = Scored(accuracy_closed_book=0.5, accuracy_icl=1.0, evaluate_seconds=2.0, tensor_parallel=1)
TABLE = pl.DataFrame({"a": [1]})


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(Store(str(tmp_path / "study")))


def plan_one(ledger: Ledger, trial: Trial = TRIAL) -> Planned:
    [planned] = plan.plan(Study(name="s", trials=(trial,), n_items=1), ledger, CPU)
    return planned


def test_a_trial_goes_from_to_do_to_done_by_its_files(ledger: Ledger) -> None:
    p = plan_one(ledger)
    states = [p.state]
    ledger.begin(p, {"python": "3.11"})
    states.append(plan_one(ledger).state)
    ledger.fail(Failure(key=TRIAL.key, phase="fine-tune", reason="no memory"))
    states.append(plan_one(ledger).state)
    ledger.mark_trained(TRIAL.key, TABLE, TRAINED)
    states.append(plan_one(ledger).state)
    ledger.mark_done(TRIAL.key, TABLE, SCORED)
    states.append(plan_one(ledger).state)
    assert states == ["to do", "to do", "failed", "trained", "done"]
    assert ledger.unfinished_keys() == []


def test_what_is_recorded_is_read_back_as_what_it_was(ledger: Ledger) -> None:
    trial = replace(TRIAL, training=Training(method="full", epochs=3), pool_seed=4, label="x")
    p = plan_one(ledger, trial)
    ledger.begin(p, {"python": "3.11"})
    ledger.mark_trained(trial.key, TABLE, TRAINED)
    ledger.mark_done(trial.key, TABLE, SCORED)
    begun = ledger.begun(trial.key)
    assert (begun.trial, begun.identity, begun.estimate) == (trial, p.identity, p.estimate)
    assert (ledger.trained(trial.key), ledger.scored(trial.key)) == (TRAINED, SCORED)


def test_a_failure_is_forgotten_when_its_phase_is_tried_again_or_the_trial_succeeds(ledger: Ledger) -> None:
    failure = Failure(key=TRIAL.key, phase="fine-tune", reason="no memory", logs="/logs")
    ledger.fail(failure)
    ledger.clear_failure(TRIAL.key, "evaluate")
    assert ledger.failure(TRIAL.key) == failure
    ledger.clear_failure(TRIAL.key, "fine-tune")
    assert ledger.failure(TRIAL.key) is None
    ledger.fail(failure)
    ledger.mark_done(TRIAL.key, TABLE, SCORED)
    assert ledger.failure(TRIAL.key) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: {k: v for k, v in record.items() if k != "estimate"}, "another version .*fields: estimate"),
        (lambda record: record | {"trial": record["trial"] | {"seed": "one"}}, r"fields: trial\.seed"),
        (lambda record: [], "another version"),
    ],
)
def test_a_record_of_another_version_is_named(ledger: Ledger, change: object, message: str) -> None:
    ledger.begin(plan_one(ledger), {})
    file = Path(ledger.store.address(f"trials/{TRIAL.key}/trial.json"))
    file.write_text(json.dumps(change(json.loads(file.read_text()))))  # type: ignore[operator]
    with pytest.raises(RecordError, match=f"{file}: .*{message}"):
        plan_one(ledger)


def test_a_damaged_record_is_named(ledger: Ledger) -> None:
    ledger.begin(plan_one(ledger), {})
    file = Path(ledger.store.address(f"trials/{TRIAL.key}/trial.json"))
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(RecordError, match=f"{file}: not JSON"):
        plan_one(ledger)


def test_each_full_fine_tune_of_a_base_fails_for_its_own_reason(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = [replace(TRIAL, seed=seed, training=Training(method="full")) for seed in (0, 1, 2)]
    group = [plan_one(ledger, trial) for trial in trials]

    def break_some(score: object, group: list[Planned], ledger: Ledger) -> BaseException | None:
        if score is evaluation.score_untrained:
            return None
        [p] = group
        if p.trial.seed == 2:
            ledger.mark_done(p.trial.key, TABLE, SCORED)
            return None
        return RuntimeError(f"shard {p.trial.seed} is damaged")

    monkeypatch.setattr(evaluation, "on_engine", break_some)
    monkeypatch.setattr("engine.cluster.session.log_folder", lambda: "/logs")
    failures = {f.key: f for f in evaluation.score_group(group, ledger)}
    assert {key: f.reason for key, f in failures.items()} == {
        trials[0].key: "RuntimeError: shard 0 is damaged",
        trials[1].key: "RuntimeError: shard 1 is damaged",
    }
    assert {(f.phase, f.logs) for f in failures.values()} == {("evaluate", "/logs")}
