"""Identity: what makes two trials the same, and what is refused before anything starts."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from engine import study
from engine.news.items import load_news
from engine.planning import plan, shipped
from engine.planning.placement import Machine
from engine.planning.plan import Refused
from engine.storage.store import Store
from engine.study import Sampling, Study, Training, Trial, grid, narrow

CPU = Machine(device="cpu", n_cpus=2, n_gpus=0, device_gib=24)
TRIAL = Trial(trainee="smollm2-135m", domain="events", protocol="paraphrase")
ROOT = Path(__file__).parent.parent


def identity(trial: Trial) -> dict[str, object]:
    return study.trial_identity(trial, [i for i in load_news() if i.domain == "events"][:2])


def test_keys_are_readable() -> None:
    assert TRIAL.key == "events-paraphrase-smollm2-135m-n8-s0"
    other = replace(TRIAL, context_mode="prefix", generator="qwen2.5-coder-0.5b", training=Training(method="full"))
    assert other.key == "events-paraphrase+prefix-smollm2-135m-by-qwen2.5-coder-0.5b-full-n8-s0"


@pytest.mark.parametrize(
    "change",
    [
        {"budget": 9},
        {"seed": 1},
        {"context_mode": "prefix"},
        {"precision": "bfloat16"},
        {"trainee": "qwen2.5-coder-0.5b"},
        {"generator": "qwen2.5-coder-0.5b"},
        {"sampling": Sampling(temperature=0.1)},
        {"training": Training(learning_rate=2e-4)},
    ],
)
def test_whatever_bears_on_the_result_is_in_the_fingerprint(change: dict[str, object]) -> None:
    other = replace(TRIAL, **change)
    assert study.fingerprint(identity(TRIAL)) != study.fingerprint(identity(other))
    assert study.differences(identity(TRIAL), identity(other))


def test_a_generator_that_is_the_trainee_is_no_difference() -> None:
    assert identity(TRIAL) == identity(replace(TRIAL, generator="smollm2-135m"))


def test_the_line_of_an_item_in_its_file_is_no_part_of_identity() -> None:
    items = [replace(i, line=i.line + 7) for i in load_news() if i.domain == "events"][:2]
    assert study.trial_identity(TRIAL, items) == identity(TRIAL)


def test_identity_holds_plain_data_only() -> None:
    with pytest.raises(TypeError):
        study.canonical({"path": Path()})
    with pytest.raises(ValueError, match="JSON"):
        study.canonical({"rate": float("nan")})


def test_a_changed_setting_is_refused_with_the_field_that_differs(tmp_path: Path) -> None:
    from engine import pipeline

    store, s = Store(str(tmp_path)), Study(name="s", trials=(TRIAL,), n_items=2)
    [planned] = plan.plan(s, store, CPU)
    pipeline.begin(planned, store)
    changed = replace(s, trials=(replace(TRIAL, training=Training(learning_rate=2e-4)),))
    stale = plan.plan(changed, store, CPU)
    assert stale[0].state == "stale"
    with pytest.raises(Refused, match=r"training.learning_rate: 0.001 → 0.0002"):
        plan.refuse_stale(stale, store)


def test_a_pool_that_was_sampled_otherwise_is_refused(tmp_path: Path) -> None:
    from engine import pipeline

    store = Store(str(tmp_path))
    [first] = plan.plan(Study(name="s", trials=(TRIAL,), n_items=2), store, CPU)
    pipeline.claim(first, store)
    [other] = plan.plan(Study(name="s", trials=(replace(TRIAL, sampling=Sampling(top_p=0.5)),), n_items=2), store, CPU)
    with pytest.raises(ValueError, match=r"sampling.top_p: 0.95 → 0.5"):
        pipeline.claim(other, store)


def test_all_faults_of_a_study_are_reported_at_once(tmp_path: Path) -> None:
    bad = (
        replace(TRIAL, protocol="osmosis"),
        replace(TRIAL, domain="weather"),
        replace(TRIAL, trainee="qwen2.5-coder-0.5"),
        replace(TRIAL, training=Training(epochs=0)),
        TRIAL,
        TRIAL,
    )
    with pytest.raises(Refused) as refused:
        plan.plan(Study(name="s", trials=bad), Store(str(tmp_path)), CPU)
    for part in ("osmosis", "weather", "qwen2.5-coder-0.5b", "epochs is 0", "two trials"):
        assert part in str(refused.value)


def test_narrowing_to_what_is_not_there_says_what_is() -> None:
    s = shipped.load("quickstart")
    assert {t.domain for t in narrow(s, domain=["events"], protocol=None).trials} == {"events"}
    with pytest.raises(ValueError, match="discoveries, events"):
        narrow(s, domain=["sport"])


@pytest.mark.parametrize("name", list(shipped.STUDIES))
def test_shipped_studies_are_sound(name: str, tmp_path: Path) -> None:
    machine = Machine(device="gpu", n_cpus=64, n_gpus=32, device_gib=80)
    planned = plan.plan(shipped.load(name), Store(str(tmp_path)), machine)
    assert all(p.profile.fits and p.state == "to do" for p in planned)
    assert planned == sorted(planned, key=lambda p: -p.estimate.seconds)


def test_budgets_and_seeds_span_the_grid() -> None:
    trials = grid(trainees=["a", "b"], domains=["events"], protocols=["naive"], budgets=[1, 2], seeds=[0, 1, 2])
    assert len({t.key for t in trials}) == 12


def grid_job(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "jobs/grid.py", *args], capture_output=True, text=True, cwd=ROOT, check=False
    )


def test_the_plan_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import runpy, sys\n"
        "sys.path.insert(0, 'jobs')\n"
        "sys.argv = ['grid.py', '--study', 'newnews', '--device', 'gpu', '--plan', '--storage', sys.argv[1]]\n"
        "try: runpy.run_path('jobs/grid.py', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'torch', 'vllm', 'ray', 'transformers', 'statsmodels'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "qwen2.5-72b" in done.stdout


def test_help_and_plan_cost_no_more_than_a_few_imports(tmp_path: Path) -> None:
    def seconds(*args: str) -> float:
        began = time.monotonic()
        subprocess.run([sys.executable, *args], capture_output=True, cwd=ROOT, check=True)
        return time.monotonic() - began

    polars = min(seconds("-c", "import polars, rich.table") for _ in range(3))
    assert seconds("jobs/grid.py", "--help") < 10 * polars
    assert (
        seconds("jobs/grid.py", "--study", "newnews", "--plan", "--device", "gpu", "--storage", str(tmp_path))
        < 20 * polars
    )


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--study", "nope"], "unknown study 'nope'"),
        (["--study", "missing.py:s"], "no study file"),
        (["--study", "quickstart", "--models", "gpt"], "has no trainee 'gpt'"),
        (["--study", "quickstart", "--news", "nowhere.jsonl"], "nowhere.jsonl"),
    ],
)
def test_bad_arguments_end_with_one_clear_line(args: list[str], message: str, tmp_path: Path) -> None:
    done = grid_job(*args, "--storage", str(tmp_path), "--plan")
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_bad_news_is_reported_with_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text(json.dumps({"id": "a", "domain": "sport", "text": "x", "questions": []}) + "\n{\n")
    done = grid_job("--study", "quickstart", "--news", str(file), "--storage", str(tmp_path))
    assert done.returncode == 2
    assert "mine.jsonl:1" in done.stderr
    assert "mine.jsonl:2" in done.stderr


def test_news_longer_than_the_context_is_refused(tmp_path: Path, news_file: Path) -> None:
    item = json.loads(news_file.read_text().splitlines()[0])
    news_file.write_text(json.dumps(item | {"text": "long " * 60_000}) + "\n")
    s = Study(name="s", news=str(news_file), trials=(TRIAL,))
    with pytest.raises(Exception, match=r"news.jsonl:1.*smollm2-135m"):
        plan.plan(s, Store(str(tmp_path)), CPU)
