"""Identity: what makes two trials the same, and what is refused before anything starts."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import CPU, GPU_NODES

from engine import UserError
from engine.news.items import NewsItem, Question, load_news
from engine.planning import identity as identities
from engine.planning import plan, shipped
from engine.planning.identity import identify_pool, identify_trial
from engine.planning.plan import Refused
from engine.storage.fingerprint import Identity, canonical, differences, fingerprint
from engine.storage.ledger import Ledger, name_untrained
from engine.storage.store import Store
from engine.study import Sampling, Study, Training, Trial, grid, narrow

TRIAL = Trial(trainee="smollm2-135m", domain="events", protocol="paraphrase", precision="float32")
ITEMS = [i for i in load_news() if i.domain == "events"][:2]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(Store(str(tmp_path / "runs")))


def identity(trial: Trial) -> Identity:
    return identify_trial(trial, ITEMS)


# ---- keys ------------------------------------------------------------------------------------------------------------


def test_keys_are_readable() -> None:
    assert TRIAL.key == "events-paraphrase-smollm2-135m-n8-s0"
    other = replace(TRIAL, context_mode="prefix", generator="qwen2.5-coder-0.5b", training=Training(method="full"))
    assert other.key == "events-paraphrase+prefix-smollm2-135m-by-qwen2.5-coder-0.5b-n8-s0-full"


def test_a_sweep_over_any_setting_is_one_study(ledger: Ledger) -> None:
    settings = [Training(), Training(learning_rate=5e-4), Training(lora_rank=32), Training(epochs=4)]
    swept = [replace(TRIAL, training=training) for training in settings]
    swept += [replace(TRIAL, sampling=Sampling(temperature=0.5)), replace(TRIAL, precision="bfloat16")]
    swept += [replace(TRIAL, forms=("choice",)), replace(TRIAL, seed=1), replace(TRIAL, pool_seed=3)]
    planned = plan.plan(Study(name="sweep", trials=tuple(swept), n_items=2), ledger, CPU)
    assert len({p.trial.key for p in planned}) == len(swept)
    assert swept[1].key == "events-paraphrase-smollm2-135m-n8-s0-lr0.0005"


def test_a_key_depends_on_the_trial_alone_and_a_label_names_its_settings() -> None:
    slow = replace(TRIAL, training=Training(learning_rate=5e-4, epochs=2), label="slow")
    assert slow.key == "events-paraphrase-smollm2-135m-n8-s0-slow"
    assert identity(slow) == identity(replace(slow, label=""))


def test_the_fingerprint_of_a_trial_is_what_it_always_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of made news, and without the code of a protocol, which may change: results that are there must stay valid."""
    monkeypatch.setattr(identities, "digest", lambda protocol: "the code")
    news = NewsItem(
        id="events-a",
        domain="events",
        text="On 3 May 2028 the harbour of Lindvik was closed to ships longer than 80 metres.",
        questions=(Question(id="events-a/q1", text="When?", options=("in March", "in May"), answer=1),),
    )
    trial = Trial(
        trainee="qwen2.5-0.5b", domain="events", protocol="naive", precision="float32", forms=("choice",), budget=4
    )
    made = identify_trial(trial, [news])
    assert fingerprint(made) == "72d4a19ecf8ce5172fcba36d668196071ba6bd218f0d1d11d51921b8ff047cee"
    assert name_untrained(made) == "qwen2.5-0.5b-events-241ea4bb1845"


# ---- pools and runs --------------------------------------------------------------------------------------------------


def test_a_run_has_a_pool_of_its_own_unless_the_study_fixes_one() -> None:
    first, second = TRIAL, replace(TRIAL, seed=1)
    assert first.pool != second.pool
    assert identify_pool(first, ITEMS) != identify_pool(second, ITEMS)
    shared = [replace(TRIAL, seed=seed, pool_seed=0) for seed in (0, 1)]
    assert shared[0].pool == shared[1].pool == first.pool
    assert shared[0].key != shared[1].key
    assert identify_pool(shared[1], ITEMS) == identify_pool(first, ITEMS)


def test_what_affects_a_pool_is_in_its_name_and_what_does_not_is_not() -> None:
    others = [replace(TRIAL, sampling=Sampling(top_p=0.5)), replace(TRIAL, precision="bfloat16")]
    assert len({t.pool for t in (TRIAL, *others)}) == 3
    for change in ({"budget": 99}, {"training": Training(epochs=1)}, {"label": "x"}, {"context_mode": "prefix"}):
        same = replace(TRIAL, **change)  # type: ignore[arg-type]
        assert same.pool == TRIAL.pool
        assert identify_pool(same, ITEMS) == identify_pool(TRIAL, ITEMS)


def test_pools_that_differ_in_sampling_draw_the_same_random_numbers() -> None:
    assert replace(TRIAL, sampling=Sampling(top_p=0.5)).source == TRIAL.source != replace(TRIAL, seed=1).source


# ---- identity --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"budget": 9},
        {"seed": 1},
        {"pool_seed": 1},
        {"context_mode": "prefix"},
        {"precision": "bfloat16"},
        {"trainee": "qwen2.5-coder-0.5b"},
        {"generator": "qwen2.5-coder-0.5b"},
        {"forms": ("choice",)},
        {"sampling": Sampling(temperature=0.1)},
        {"training": Training(learning_rate=2e-4)},
    ],
)
def test_whatever_affects_the_result_is_in_the_fingerprint(change: dict[str, object]) -> None:
    other = replace(TRIAL, **change)  # type: ignore[arg-type]
    assert fingerprint(identity(TRIAL)) != fingerprint(identity(other))
    assert differences(identity(TRIAL), identity(other))
    assert other.key != TRIAL.key


def test_precision_is_what_the_device_of_the_plan_says_before_anything_is_named(ledger: Ledger) -> None:
    auto = Study(name="s", trials=(replace(TRIAL, precision="auto"),), n_items=2)
    [on_cpu], [on_gpu] = plan.plan(auto, ledger, CPU), plan.plan(auto, ledger, GPU_NODES)
    assert (on_cpu.trial, on_gpu.trial) == (TRIAL, replace(TRIAL, precision="bfloat16"))
    assert (on_cpu.identity["precision"], on_gpu.identity["precision"]) == ("float32", "bfloat16")
    assert on_gpu.trial.pool == "events-paraphrase-smollm2-135m-bf16"


def test_adapters_in_float32_are_refused_on_a_gpu_with_what_to_use(ledger: Ledger) -> None:
    full = replace(TRIAL, training=Training(method="full"))
    with pytest.raises(Refused) as refused:
        plan.plan(Study(name="s", trials=(TRIAL, full)), ledger, GPU_NODES)
    [line] = str(refused.value).splitlines()
    assert "precision is 'float32'" in line
    assert "use precision='auto'" in line
    assert TRIAL.key in line
    assert [p.state for p in plan.plan(Study(name="s", trials=(full,)), ledger, GPU_NODES)] == ["to do"]


def test_a_generator_that_is_the_trainee_is_no_difference() -> None:
    assert identity(TRIAL) == identity(replace(TRIAL, generator="smollm2-135m"))


def test_the_line_of_an_item_in_its_file_is_no_part_of_identity() -> None:
    items = [replace(i, line=i.line + 7) for i in ITEMS]
    assert identify_trial(TRIAL, items) == identity(TRIAL)


def test_identity_is_plain_data_only() -> None:
    with pytest.raises(TypeError):
        canonical({"path": Path()})
    with pytest.raises(ValueError, match="JSON"):
        canonical({"rate": float("nan")})


def test_a_changed_setting_is_refused_with_the_field_that_differs(ledger: Ledger) -> None:
    s = Study(name="s", trials=(replace(TRIAL, label="mine"),), n_items=2)
    [planned] = plan.plan(s, ledger, CPU)
    ledger.begin(planned, {})
    changed = replace(s, trials=(replace(TRIAL, label="mine", training=Training(learning_rate=2e-4)),))
    stale = plan.plan(changed, ledger, CPU)
    assert stale[0].state == "stale"
    with pytest.raises(Refused, match=r"training.learning_rate: 0.001 → 0.0002"):
        plan.refuse_stale(stale, ledger)


def test_a_pool_of_other_news_is_refused(ledger: Ledger) -> None:
    ledger.claim_pool(TRIAL.pool, identify_pool(TRIAL, ITEMS))
    with pytest.raises(UserError, match=rf"news.{ITEMS[1].id}: .* → null"):
        ledger.claim_pool(TRIAL.pool, identify_pool(TRIAL, ITEMS[:1]))


# ---- what is refused before anything starts --------------------------------------------------------------------------


def test_all_faults_of_a_study_are_reported_at_once(ledger: Ledger) -> None:
    bad = (
        replace(TRIAL, protocol="osmosis"),
        replace(TRIAL, domain="weather"),
        replace(TRIAL, trainee="qwen2.5-coder-0.5"),
        replace(TRIAL, training=Training(epochs=0)),
        replace(TRIAL, forms=("choice", "riddle")),
        TRIAL,
        TRIAL,
    )
    with pytest.raises(Refused) as refused:
        plan.plan(Study(name="s", trials=bad), ledger, CPU)
    for part in ("osmosis", "weather", "qwen2.5-coder-0.5b", "epochs is 0", "riddle", "two trials"):
        assert part in str(refused.value)


def test_narrowing_to_what_is_not_there_says_what_is() -> None:
    s = shipped.load("quickstart")
    assert {t.domain for t in narrow(s, domain=["events"], protocol=None).trials} == {"events"}
    with pytest.raises(UserError, match="events, discoveries"):
        narrow(s, domain=["sport"])


@pytest.mark.parametrize("name", list(shipped.STUDIES))
def test_shipped_studies_are_sound(name: str, ledger: Ledger) -> None:
    planned = plan.plan(shipped.load(name), ledger, GPU_NODES)
    assert all(p.training.fits and p.serving.fits and p.writing.fits and p.state == "to do" for p in planned)
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


@pytest.mark.parametrize("words", [60_000, 2_000])  # more than the model takes; more than it is given
def test_news_longer_than_the_context_is_refused(words: int, ledger: Ledger, news_file: Path) -> None:
    item = json.loads(news_file.read_text().splitlines()[0])
    news_file.write_text(json.dumps(item | {"text": "long " * words}) + "\n")
    s = Study(name="s", news=str(news_file), trials=(TRIAL,))
    with pytest.raises(UserError, match=r"news.jsonl:1.*smollm2-135m"):
        plan.plan(s, ledger, CPU)
