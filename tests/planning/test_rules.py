"""Whatever a study may not be is refused with field, value and what is allowed; nothing is made outside its storage."""

import math
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from conftest import CPU

from engine import UserError
from engine.planning import plan, rules
from engine.storage.ledger import Ledger
from engine.storage.store import Store
from engine.study import ALL_FORMS, Sampling, Study, Training, Trial, grid, narrow

TRIAL = Trial(trainee="smollm2-135m", domain="events", protocol="naive")
ROOT = Path(__file__).parents[2]


def refused(study: Study, folder: Path) -> str:
    """What a plan of the study is refused with; nothing may have been written before."""
    with pytest.raises(UserError) as error:
        plan.plan(study, Ledger(Store(f"{folder}/runs/{study.name}")), CPU)
    assert not list(folder.iterdir())
    return str(error.value)


def study_of(*trials: Trial) -> Study:
    return Study(name="s", trials=trials, n_items=1)


# ---- settings --------------------------------------------------------------------------------------------------------

WRONG: dict[type, dict[str, list[Any]]] = {
    Training: {
        "method": ["qlora", None, ["lora"]],
        "lora_rank": [0, 3000, 16.0, "16", True],
        "lora_alpha": [0, 1.5, None],
        "learning_rate": [0, -1e-3, math.nan, math.inf, "1e-3", True, 10**400],
        "schedule": ["linear", "Cosine", 1],
        "warmup": [-0.1, 1.1, math.nan],
        "epochs": [0, 1.5, "3", True, 10**12],
        "batch_size": [0, 2.0],
        "weight_decay": [-0.1, math.inf],
        "max_grad_norm": [0, -1, math.inf, math.nan],
    },
    Sampling: {
        "temperature": [-0.1, math.nan, math.inf, "hot"],
        "top_p": [0, 2, -1, math.nan],
        "max_tokens": [0, 256.0, 2048, 10**6],
    },
    Trial: {
        "trainee": ["", 7, None],
        "domain": [["events"], 1],
        "protocol": ["", 1],
        "context_mode": ["suffix", None],
        "generator": [None, " ", 3],
        "budget": [0, 2.5, "8", True, 10**30],
        "seed": [-1, 0.5, 2**32, "0"],
        "pool_seed": [-1, 1.5, False],
        "precision": ["fp16", "float16", None],
        "forms": [(), ("letter",), ("choice", "choice"), ("choice", "riddle"), "choice", 3, ("choice", None)],
        "sampling": [{"temperature": 0.5}, None],
        "training": [{"epochs": 2}, Sampling()],
        "label": [None, 1, " "],
    },
}
CASES = [(kind, field, value) for kind, of in WRONG.items() for field, values in of.items() for value in values]


@pytest.mark.parametrize(("kind", "field", "value"), CASES)
def test_a_wrong_value_is_refused_by_field_value_and_range(kind: type, field: str, value: Any, tmp_path: Path) -> None:
    part = {Training: "training", Sampling: "sampling"}.get(kind)
    change = {part: kind(**{field: value})} if part else {field: value}
    message = refused(study_of(replace(TRIAL, **change)), tmp_path)
    [line] = [line for line in message.splitlines() if line.startswith(f"{field} is ")]
    assert f"{field} is {rules.SHORT.repr(value)}; use " in line
    assert rules.RULES[kind][field][1] in line


def test_every_field_has_a_rule_and_is_tested() -> None:
    for kind, of_field in rules.RULES.items():
        assert list(of_field) == [f.name for f in fields(kind)]
    assert all(list(of) == list(rules.RULES[kind]) for kind, of in WRONG.items())


@pytest.mark.parametrize(
    "change",
    [
        {"training": Training(learning_rate=1, weight_decay=0, max_grad_norm=2, warmup=1)},  # whole numbers are numbers
        {"training": Training(method="full", schedule="constant", lora_rank=512, lora_alpha=1, warmup=0.0)},
        {"sampling": Sampling(temperature=0, top_p=1, max_tokens=2047)},
        {"seed": 2**32 - 1, "pool_seed": 0, "precision": "bfloat16", "context_mode": "prefix_loss"},
        {"forms": ["choice", "task"], "label": "lr.1+x_y", "generator": "qwen2.5-coder-0.5b"},
    ],
)
def test_the_ends_of_all_ranges_are_allowed(change: dict[str, Any], tmp_path: Path) -> None:
    assert rules.find_faults(replace(TRIAL, **change)) == {}
    assert plan.plan(study_of(replace(TRIAL, **change)), Ledger(Store(str(tmp_path))), CPU)


def test_the_news_may_be_a_path(tmp_path: Path, news_file: Path) -> None:
    study = replace(study_of(TRIAL), news=news_file)  # type: ignore[arg-type]
    assert plan.plan(study, Ledger(Store(str(tmp_path / "runs"))), CPU)


def test_all_faults_of_all_trials_come_at_once(tmp_path: Path) -> None:
    training = Training(schedule="linear", epochs=1.5, learning_rate=math.nan)  # type: ignore[arg-type]
    first = replace(TRIAL, training=training, budget=0, protocol="osmosis")
    second = replace(TRIAL, sampling=Sampling(top_p=2), trainee=3, domain="weather")  # type: ignore[arg-type]
    message = refused(study_of(first, replace(first, seed=1), second), tmp_path)
    for part in ("'linear'", "epochs is 1.5", "nan", "budget is 0", "osmosis", "top_p is 2", "trainee is 3", "weather"):
        assert part in message
    assert message.count("epochs is 1.5") == 1  # with its trials, however many
    assert "and 1 more trials" in message
    assert "(trial 3)" in message  # that has no key


def test_a_completion_has_to_leave_room_for_its_prompt(tmp_path: Path, tiny: Path) -> None:
    trial = replace(TRIAL, generator=str(tiny), sampling=Sampling(max_tokens=1024))
    assert "max_tokens is 1024; " in refused(study_of(trial), tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", 3),
        ("trials", ()),
        ("trials", ("events",)),
        ("news", 5),
        ("n_items", 0),
        ("n_items", "3"),
        ("n_items", 1.5),
    ],
)
def test_a_study_that_cannot_be_read_is_refused_with_its_trials_faults(field: str, value: Any, tmp_path: Path) -> None:
    study = replace(study_of(replace(TRIAL, budget=0)), **{field: value})
    message = refused(study, tmp_path)
    assert f"study: {field} is {value!r}; use " in message
    assert field == "trials" or "budget is 0" in message


def test_one_value_in_place_of_an_axis_is_refused() -> None:
    with pytest.raises(UserError) as error:
        grid(trainees="smollm2-135m", domains=["events"], protocols=["naive"], budgets=8)  # type: ignore[arg-type]
    assert "trainees is 'smollm2-135m'; write a list: ['smollm2-135m']" in str(error.value)
    assert "budgets is 8; write a list: [8]" in str(error.value)


def test_a_study_with_wrong_types_can_be_narrowed() -> None:
    study = study_of(replace(TRIAL, budget="8"), replace(TRIAL, budget=[4]), TRIAL)  # type: ignore[arg-type]
    assert narrow(study, budget=[8]).trials == (TRIAL,)
    with pytest.raises(UserError, match=r"8, \[4\]"):
        narrow(study, budget=[5])


# ---- names -----------------------------------------------------------------------------------------------------------

UNSAFE = ["a/b", "../../escape", "/tmp/absolute", "..", ".hidden", "-flag", "a b", "a\n", "ü", "a\0", "a\\b", "x" * 101]


@pytest.mark.parametrize("name", UNSAFE)
@pytest.mark.parametrize("field", ["domain", "protocol", "label"])
def test_a_name_that_cannot_be_part_of_a_path_is_refused(field: str, name: str, tmp_path: Path) -> None:
    message = refused(study_of(replace(TRIAL, **{field: name})), tmp_path)  # type: ignore[arg-type]
    assert f"{field} is {rules.SHORT.repr(name)}; use 1 to 100 of the characters A-Z a-z 0-9 . _ + -" in message


@pytest.mark.parametrize("name", UNSAFE)
def test_a_study_whose_name_leaves_the_storage_is_refused(name: str, tmp_path: Path) -> None:
    study = replace(study_of(replace(TRIAL, label="x/y")), name=name)
    message = refused(study, tmp_path)
    assert "study: name is " in message
    assert "label is 'x/y'" in message


@pytest.mark.parametrize("name", ["a/b", "../../escape"])
def test_a_job_makes_nothing_outside_the_storage(name: str, tmp_path: Path) -> None:
    own = f"""
from engine.study import Study, Trial
def mine():
    return Study(name={name!r}, trials=(Trial(trainee="smollm2-135m", domain="events", protocol="naive"),))
"""
    (tmp_path / "own.py").write_text(own)
    storage = tmp_path / "deep/er/runs"
    args = ["jobs/grid.py", "--study", f"{tmp_path}/own.py:mine", "--storage", str(storage), "--plan"]
    done = subprocess.run([sys.executable, *args], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, "study: name is" in done.stderr, "Traceback" in done.stderr) == (2, True, False)
    assert {p.name for p in tmp_path.iterdir()} <= {"own.py", "__pycache__"}


def test_a_key_longer_than_a_file_name_is_refused(tmp_path: Path) -> None:
    long = replace(TRIAL, label="x" * 100, generator="/m" + "y" * 120)
    message = refused(study_of(long), tmp_path)
    assert f"the key {long.key!r} has {len(long.key)} bytes; use at most 200" in message
    name = replace(TRIAL, generator="/m" + "y" * 190)
    assert f"the pool's name {name.pool!r} has" in refused(study_of(name), tmp_path)


def test_two_pools_with_one_name_are_refused(tmp_path: Path) -> None:
    trials = replace(TRIAL, generator="/a/model"), replace(TRIAL, generator="/b/model", budget=4)
    message = refused(study_of(*trials), tmp_path)
    assert f"two pools have the name {trials[0].pool!r}" in message
    assert "/a/model" in message
    assert "/b/model" in message


def test_all_shipped_forms_are_known_to_the_rules() -> None:
    from engine.evaluation.questions import CHOICE, FORMS

    assert set(ALL_FORMS) == set(FORMS)
    assert CHOICE.name == "choice"
