"""What a study is expected to take: steps by the model of the docstring, each pool once, every phase."""

from dataclasses import replace
from pathlib import Path

import pytest
from conftest import GPU_NODES

from engine.cluster.machines import TrainingPlacement
from engine.news.items import NewsItem, load_news
from engine.planning import estimate, plan, prices
from engine.planning.placement import place_training
from engine.storage.ledger import Ledger
from engine.storage.records import Planned
from engine.storage.store import Store
from engine.study import Study, Training, Trial, grid

ITEMS = tuple(i for i in load_news() if i.domain == "events")
TRIAL = Trial(trainee="qwen2.5-7b", domain="events", protocol="paraphrase", budget=64, precision="bfloat16")


def place(trial: Trial, items: tuple[NewsItem, ...] = ITEMS) -> TrainingPlacement:
    arch = estimate.size_of(trial, items).arch
    return place_training(arch, trial.training, "bfloat16", GPU_NODES, estimate.longest_element(trial, items))


def seconds_per_step(trial: Trial, **changed: object) -> float:
    return estimate.step_seconds(estimate.size_of(trial, ITEMS), replace(place(trial), **changed))  # type: ignore[arg-type]


# ---- one trial -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "expected"),
    [("0.5b", 0.12), ("1.5b", 0.13), ("3b", 0.17), ("7b", 0.13), ("14b", 0.23), ("32b", 0.46), ("72b", 1.5)],
)
def test_a_step_of_some_hundred_tokens_waits_for_launches_or_for_gathered_weights(size: str, expected: float) -> None:
    assert seconds_per_step(replace(TRIAL, trainee=f"qwen2.5-{size}")) == pytest.approx(expected, rel=0.05)


def test_a_step_of_many_tokens_takes_what_its_operations_take() -> None:
    large = replace(TRIAL, training=Training(batch_size=320), budget=640)
    size = estimate.size_of(large, ITEMS)
    one = seconds_per_step(large, micro_batch_tokens=10**6, recompute=False, n_workers=1)
    assert one == pytest.approx(size.flops / size.steps / 350e12)
    assert seconds_per_step(large, micro_batch_tokens=10**6, recompute=False, n_workers=4) == pytest.approx(one / 4)


def test_each_micro_batch_and_recomputation_launch_anew() -> None:
    once = seconds_per_step(TRIAL)
    assert seconds_per_step(TRIAL, recompute=True) == pytest.approx(1.5 * once)
    assert seconds_per_step(TRIAL, micro_batch_tokens=400) == pytest.approx(2 * once)


def test_a_measured_speed_counts_for_its_own_model_device_and_world_size_alone() -> None:
    speeds, where = {("qwen2.5-7b", "gpu", 8): 1e15}, replace(place(TRIAL), n_workers=8)
    measured = estimate.estimate(TRIAL, ITEMS, where, speeds)
    start = measured.seconds - measured.train_flops / 1e15
    assert (measured.basis, start) == ("speed of trials done here", pytest.approx(30 + 15.2e9 / 0.85e9, rel=0.01))
    other = replace(TRIAL, trainee="qwen2.5-3b")
    for trial, there in ((other, where), (TRIAL, place(TRIAL)), (TRIAL, replace(where, device="cpu"))):
        assert estimate.estimate(trial, ITEMS, there, speeds).basis.startswith("nominal")


# ---- a study ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def planned(tmp_path: Path) -> list[Planned]:
    """Two pools, each learned from by four trials of one seed."""
    trials = grid(
        trainees=["qwen2.5-7b"],
        domains=["events"],
        protocols=["naive", "paraphrase", "implication"],
        context_modes=["none", "prefix"],
        budgets=[16, 64],
        forms=("choice",),
    )
    return plan.plan(Study(name="s", trials=trials), Ledger(Store(str(tmp_path / "runs"))), GPU_NODES)


def hours(planned: list[Planned]) -> dict[str, float]:
    return {cost.phase: cost.hours for cost in prices.price_phases(planned)}


def test_a_pool_is_paid_for_once_however_many_learn_from_it(planned: list[Planned]) -> None:
    largest = [p for p in planned if p.trial.budget == 64 and p.trial.context_mode == "none"]
    assert hours(planned)["self-play"] == pytest.approx(hours(largest)["self-play"])
    assert hours([p for p in planned if p.trial.protocol == "naive"])["self-play"] == 0


def test_of_a_pool_only_what_is_not_written_is_paid_for(planned: list[Planned]) -> None:
    [small, large] = sorted(
        (p for p in planned if p.trial.protocol == "paraphrase" and p.trial.context_mode == "none"),
        key=lambda p: p.trial.budget,
    )
    start = (90 + estimate.load_seconds(prices.weight_bytes("qwen2.5-7b", "bfloat16"), "gpu", 1)) / 3600
    whole = hours([small, large])["self-play"] - start
    assert hours([replace(small, state="trained"), large])["self-play"] - start == pytest.approx(whole * 48 / 64)
    assert hours([small, replace(large, state="done")])["self-play"] == 0


def test_what_is_trained_is_only_evaluated_and_what_is_done_takes_nothing(planned: list[Planned]) -> None:
    trained = hours([replace(p, state="trained") for p in planned])
    assert (trained["self-play"], trained["fine-tune"]) == (0, 0)
    assert trained["evaluate"] == hours(planned)["evaluate"] > 0
    assert set(hours([replace(p, state="done") for p in planned]).values()) == {0}


def test_hours_are_those_of_all_devices(planned: list[Planned]) -> None:
    on_four = [replace(p, training=replace(p.training, n_workers=4)) for p in planned]
    assert hours(on_four)["fine-tune"] == pytest.approx(4 * hours(planned)["fine-tune"])


def test_all_that_an_evaluation_asks_is_counted() -> None:
    """Both conditions ask each option of each question; the prompt of a question is read once for all of them."""
    n_options = sum(len(q.options) for item in ITEMS for q in item.questions)
    requests, tokens = prices.count_asked(ITEMS, ("choice",))
    assert requests == 2 * n_options
    with_letters, more = prices.count_asked(ITEMS, ("choice", "letter"))
    assert with_letters == 4 * n_options
    n_questions = sum(len(item.questions) for item in ITEMS)
    assert 2 * n_questions * 30 < tokens < 2 * n_questions * 250 < more
