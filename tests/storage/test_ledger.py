"""The ledger: the state of a trial from its files, typed records, failures that are forgotten in time."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from conftest import CPU
from made_records import SCORED, TRAINED

from engine.planning import plan
from engine.storage.ledger import Ledger
from engine.storage.records import Failure, Planned, RecordError
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


def test_a_trial_goes_from_to_do_to_done_by_its_files(ledger: Ledger) -> None:
    p = plan_one(ledger)
    states = [p.state]
    ledger.begin(p, {"python": "3.11"})
    states.append(plan_one(ledger).state)
    ledger.fail(Failure(key=TRIAL.key, phase="fine-tune", reason="no memory"))
    states.append(plan_one(ledger).state)
    ledger.mark_trained(TRIAL.key, TABLE, TRAINED)
    states.append(plan_one(ledger).state)
    ledger.mark_untrained(p, TABLE)
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
    [fault] = plan_one(ledger).differs
    assert re.match(f"{file}: .*{message}", fault)


# ---- damage, and what is no trial ------------------------------------------------------------------------------------


def finish(ledger: Ledger, trial: Trial) -> Planned:
    """A trial that is done, with a pool."""
    p = plan_one(ledger, trial)
    ledger.begin(p, {"python": "3.11"})
    ledger.claim_pool(trial.pool, p.identity["pool"])
    ledger.add_draws(trial.pool, pl.DataFrame({"item": ["a"], "draw": [0]}))
    ledger.put_elements(trial.pool, TABLE)
    ledger.mark_trained(trial.key, TABLE, TRAINED)
    ledger.mark_untrained(p, TABLE)
    ledger.mark_done(trial.key, TABLE, SCORED)
    return p


def file_of(ledger: Ledger, pattern: str) -> Path:
    [file] = Path(ledger.store.root).glob(pattern)
    return file


READ = [
    "trials/*/trial.json",
    "trials/*/trained.json",
    "trials/*/result.json",
    "trials/*/questions.parquet",
    "before/*/questions.parquet",
    "pools/*/pool.json",
    "pools/*/draws-*.parquet",
    "pools/*/elements.parquet",
]


@pytest.mark.parametrize("pattern", READ)
@pytest.mark.parametrize("share", [0.0, 0.6])
def test_whatever_is_cut_the_plan_names_it_and_what_to_do(ledger: Ledger, pattern: str, share: float) -> None:
    finish(ledger, TRIAL)
    assert plan_one(ledger).state == "done"
    file = file_of(ledger, pattern)
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    p = plan_one(ledger)
    assert p.state == "damaged"
    [fault] = p.differs
    assert fault.startswith(f"{file}: ")
    assert "; remove " in fault


@pytest.mark.parametrize(
    ("pattern", "state"),
    [
        ("trials/*/questions.parquet", "trained"),
        ("before/*/questions.parquet", "trained"),
        ("trials/*/trained.json", "to do"),
        ("pools/*/draws-*.parquet", "done"),
        ("pools/*/elements.parquet", "done"),
    ],
)
def test_what_a_fault_says_to_do_repairs_it(ledger: Ledger, pattern: str, state: str) -> None:
    finish(ledger, TRIAL)
    file = file_of(ledger, pattern)
    file.write_bytes(b"")
    [fault] = plan_one(ledger).differs
    remedy = fault.partition("; remove ")[2]
    named = next((part for part in re.split("[ ,]", remedy) if part.startswith("/")), str(file))
    target = file.parent if remedy.startswith("its folder") else Path(named)
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    assert (plan_one(ledger).state, plan_one(ledger).differs) == (state, ())
    assert ledger.is_done(TRIAL.key) == (state == "done")


def test_a_copy_that_a_person_made_is_no_trial(ledger: Ledger) -> None:
    finish(ledger, TRIAL)
    trials = Path(ledger.store.address("trials"))
    shutil.copytree(trials / TRIAL.key, trials / f"{TRIAL.key}-backup")
    (trials / "notes").mkdir()
    (trials / "notes/trial.json").write_text("mine")
    (trials / "todo.txt").write_text("mine")
    assert (ledger.done_keys(), ledger.unfinished_keys()) == ([TRIAL.key], [])
    assert [trial.key for trial, _ in ledger.all_trained()] == [TRIAL.key]
    assert plan_one(ledger).state == "done"


def test_a_trial_without_its_settings_is_not_done(ledger: Ledger) -> None:
    finish(ledger, TRIAL)
    file_of(ledger, "trials/*/trial.json").unlink()
    assert (ledger.done_keys(), list(ledger.all_trained())) == ([], [])
    p = plan_one(ledger)
    assert p.state == "damaged"
    assert p.differs[0].endswith("trial.json: no such file; remove its folder, so that it is made again")


def test_what_a_killed_run_left_of_its_first_file_is_no_damage(ledger: Ledger) -> None:
    ledger.begin(plan_one(ledger), {})
    file = file_of(ledger, "trials/*/trial.json")
    file.rename(f"{file}.{'0' * 32}.part")
    assert plan_one(ledger).state == "to do"


def test_the_settings_of_another_trial_are_not_taken_for_ones_own(ledger: Ledger) -> None:
    other = replace(TRIAL, seed=1)
    finish(ledger, other)
    trials = Path(ledger.store.address("trials"))
    shutil.copytree(trials / other.key, trials / TRIAL.key)
    p = plan_one(ledger)
    assert p.state == "damaged"
    assert f"of trial {other.key}; rename its folder" in p.differs[0]


def test_draws_of_unknown_settings_are_not_taken_into_a_pool(ledger: Ledger) -> None:
    p = finish(ledger, TRIAL)
    file_of(ledger, "pools/*/pool.json").unlink()
    with pytest.raises(RecordError, match=r"pool\.json: no such file; remove its folder"):
        ledger.claim_pool(TRIAL.pool, p.identity["pool"])


@pytest.mark.parametrize("root", ["st*[1]/runs", "[a-c]", "a::b/~c?{x}"])
def test_no_character_of_a_storage_path_hides_what_is_done(tmp_path: Path, root: str) -> None:
    ledger = Ledger(Store(f"{tmp_path}/{root}"))
    finish(ledger, TRIAL)
    assert ledger.done_keys() == [TRIAL.key]
    assert ledger.draws(TRIAL.pool).height == 1
    assert plan_one(ledger).state == "done"


def test_one_damaged_trial_does_not_hide_the_state_of_the_others(ledger: Ledger) -> None:
    others = [replace(TRIAL, seed=seed, pool_seed=0) for seed in (1, 2)]
    for trial in (TRIAL, others[0]):
        finish(ledger, trial)
    file_of(ledger, f"trials/{TRIAL.key}/trained.json").write_text("")
    planned = plan.plan(Study(name="s", trials=(TRIAL, *others), n_items=1), ledger, CPU)
    assert {p.trial.key: p.state for p in planned} == {
        TRIAL.key: "damaged",
        others[0].key: "done",
        others[1].key: "to do",
    }


def test_an_untrained_model_counts_only_for_trials_that_ask_it_the_same(ledger: Ledger) -> None:
    other = replace(TRIAL, forms=("choice", "statement"))
    finish(ledger, TRIAL)
    p = plan_one(ledger, other)
    ledger.begin(p, {})
    ledger.mark_trained(other.key, TABLE, TRAINED)
    ledger.mark_done(other.key, TABLE, SCORED)
    planned = plan.plan(Study(name="s", trials=(TRIAL, other), n_items=1), ledger, CPU)
    assert {p.trial.key: p.state for p in planned} == {TRIAL.key: "done", other.key: "trained"}


def test_each_damaged_shard_of_a_pool_is_named(ledger: Ledger) -> None:
    finish(ledger, TRIAL)
    ledger.add_draws(TRIAL.pool, pl.DataFrame({"item": ["a"], "draw": [1]}))
    for file in Path(ledger.store.root).glob("pools/*/draws-*.parquet"):
        file.write_bytes(b"")
    assert len(plan_one(ledger).differs) == 2


def test_the_draws_of_a_pool_that_was_read_are_in_one_file(ledger: Ledger) -> None:
    for number in range(3):
        ledger.add_draws("p", pl.DataFrame({"item": ["a"], "draw": [number]}))
    before = ledger.draws("p").sort("draw")
    ledger.put_elements("p", TABLE)
    assert file_of(ledger, "pools/p/draws-*.parquet")
    assert ledger.draws("p").sort("draw").equals(before)


def test_some_columns_of_draws_are_read_without_the_others(ledger: Ledger) -> None:
    rows = {"item": ["a", "a"], "draw": [0, 1], "tokens": [5, 6], "text": ["x", "y"]}
    ledger.add_draws("p", pl.DataFrame(rows))
    ledger.add_draws("p", pl.DataFrame(rows))
    assert ledger.draws("p", ["tokens"]).sort("draw").to_dicts() == [
        {"item": "a", "draw": 0, "tokens": 5},
        {"item": "a", "draw": 1, "tokens": 6},
    ]
    with pytest.raises(RecordError, match="without column 'cost'"):
        ledger.draws("p", ["cost"])
