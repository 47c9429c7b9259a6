"""What a study costs on a cluster's file: all of `newnews` fits each file; hours, time and money add up."""

import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from engine.cluster import files, policy, rates
from engine.cluster.files import NodeGroup
from engine.cluster.nodes import KNOWN_GIB, RELATIVE_SPEED
from engine.cluster.rates import Rate, Rates
from engine.planning import costs, plan, prices, shipped
from engine.planning.costs import Costs
from engine.storage.ledger import Ledger
from engine.storage.records import Planned
from engine.storage.store import Store
from engine.study import Study, Training, grid

ROOT = Path(__file__).parents[2]
PRICES = rates.read(str(ROOT / "clusters" / "prices.yaml"))
SIZES = ("0.5b", "1.5b", "3b", "7b", "14b", "32b", "72b")

SMALL = NodeGroup(
    name="small", instance="s", spot=False, n_cpus=8, n_gpus=1, accelerator="L4", disk_gib=500, fewest=0, most=4
)
LARGE = NodeGroup(
    name="large", instance="l", spot=False, n_cpus=64, n_gpus=8, accelerator="H100", disk_gib=1000, fewest=0, most=2
)
HEAD = SMALL.model_copy(
    update={"name": "head", "instance": "h", "n_gpus": 0, "accelerator": "", "fewest": 1, "most": 1}
)
RATES = Rates(
    as_of="2026-11-26",  # type: ignore[arg-type]
    currency="USD",
    hourly={"s": Rate(on_demand=1, spot=0.4), "l": Rate(on_demand=40, spot=10), "h": Rate(on_demand=0.5, spot=0.1)},
)


def plan_on(study: Study, *groups: NodeGroup) -> list[Planned]:
    return plan.plan(study, Ledger(Store("nowhere/runs")), files.describe_cluster(groups, "mine.yaml"))


@cache
def study_of(*sizes: str) -> Study:
    trials = grid(
        trainees=[f"qwen2.5-{size}" for size in sizes],
        domains=["events", "discoveries"],
        protocols=["naive", "paraphrase"],
        budgets=[16, 64],
        training=Training(epochs=1),
    )
    return Study(name="s", trials=trials)


def count(planned: list[Planned], *groups: NodeGroup, table: Rates = RATES) -> Costs:
    return costs.count(planned, groups, table, {})


# ---- what fits -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["aws", "gcp", "local", "skypilot", "kuberay/cluster"])
def test_every_trial_of_newnews_fits_some_node_type_of_every_file(name: str) -> None:
    groups = files.read(str(ROOT / "clusters" / f"{name}.yaml"))
    planned = plan_on(shipped.newnews(), *groups)
    expected = count(planned, *groups, table=PRICES)
    assert expected.unplaced == []
    for phase in costs.PHASES:
        assert (
            sum(len(one.piece.planned) for one in expected.placed if one.piece.phase == phase) == len(planned) == 1960
        )
    for one in expected.placed:
        need, node = one.piece.need, one.group
        assert policy.n_devices(need) <= min(node.n_gpus, node.n_cpus)
        assert getattr(need, "memory_gib", 0) <= files.KNOWN_GIB[node.accelerator]
        assert costs.disk_gib(one.piece, at_once=1) <= node.disk_gib


def test_what_has_no_place_says_why_and_which_nodes_would_hold_it() -> None:
    expected = count(plan_on(study_of("0.5b", "72b"), SMALL), SMALL)
    assert {one.piece.model for one in expected.placed} == {"qwen2.5-0.5b"}
    assert {(piece.phase, piece.model) for piece, _ in expected.unplaced} == {(p, "qwen2.5-72b") for p in costs.PHASES}
    why = {piece.phase: why for piece, why in expected.unplaced}
    assert "the cluster has 4; would fit 1 node(s) with 8 × H100 (80 GiB each)" in why["fine-tune"]
    assert "need 139 GiB each, of which 19 may be used; would fit 1 node(s) with 8 × H100" in why["evaluate"]


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"n_cpus": 0}, "large has 0 CPUs for 1 processes: use an instance with more"),
        ({"disk_gib": 70}, "large has a disk of 70 GiB, 74 GiB are needed: use a larger disk"),
    ],
)
def test_cpus_and_disk_count_too(changed: dict[str, float], why: str) -> None:
    group = LARGE.model_copy(update=changed)
    expected = count(plan_on(study_of("7b"), group), group)
    assert expected.placed == []
    assert why in [text for _, text in expected.unplaced]


def test_what_runs_at_once_needs_room_for_its_checkpoints() -> None:
    [fine_tune] = [p for p in costs.split(plan_on(study_of("7b"), LARGE)) if p.phase == "fine-tune"]
    whole = replace(fine_tune.planned[0].trial, training=Training(method="full"))
    full = replace(fine_tune, planned=(replace(fine_tune.planned[0], trial=whole),))
    one, two = costs.disk_gib(full, at_once=1), costs.disk_gib(full, at_once=2)
    assert two - one == pytest.approx(2 * 7.6e9 * 14 / 2**30, rel=0.01)  # bfloat16, and 12 bytes of the optimizer


# ---- hours -----------------------------------------------------------------------------------------------------------


def test_pieces_add_up_to_what_the_phases_cost() -> None:
    planned = plan_on(study_of("0.5b", "7b", "72b"), LARGE)
    expected = count(planned, LARGE)
    for cost in prices.price_phases(planned):
        hours = [one.hours for one in expected.placed if one.piece.phase == cost.phase]
        assert sum(hours) == pytest.approx(cost.hours)


def test_what_is_done_costs_nothing_and_what_is_trained_is_only_asked() -> None:
    planned = plan_on(study_of("0.5b"), LARGE)
    done = count([replace(p, state="done") for p in planned], LARGE)
    assert (done.placed, done.unplaced, done.hours, done.bills) == ([], [], 0, [])
    trained = count([replace(p, state="trained") for p in planned], LARGE)
    assert [one.piece.phase for one in trained.placed] == ["evaluate"]


def test_a_slower_gpu_takes_longer_where_arithmetic_takes_the_time() -> None:
    ways = {group.name: count(plan_on(study_of("0.5b", "7b"), group), group) for group in (SMALL, LARGE)}
    hours = {(n, one.piece.phase, one.piece.model): one.hours for n, way in ways.items() for one in way.placed}
    slow, fast = ({k[1:]: h for k, h in hours.items() if k[0] == name} for name in ("small", "large"))
    assert slow["self-play", "qwen2.5-7b"] > 2 * fast["self-play", "qwen2.5-7b"]
    assert slow["fine-tune", "qwen2.5-7b"] > 1.5 * fast["fine-tune", "qwen2.5-7b"]
    waits = "fine-tune", "qwen2.5-0.5b"  # for the processor that launches its kernels, on both
    assert slow[waits] == pytest.approx(fast[waits], rel=0.05)


def test_each_gpu_of_known_memory_has_a_speed() -> None:
    assert RELATIVE_SPEED.keys() == KNOWN_GIB.keys()


def test_time_is_that_of_the_longest_trial_or_of_the_work_shared_out() -> None:
    many, few = LARGE.model_copy(update={"most": 1000}), LARGE.model_copy(update={"most": 1})
    planned = plan_on(study_of("7b"), LARGE)
    longest = max(p.estimate.seconds for p in planned) / 3600
    assert count(planned, many).hours - costs.NODE_START_H == pytest.approx(longest, rel=0.1)
    shared = sum(one.hours for one in count(planned, few).placed) / 8
    assert count(planned, few).hours >= max(shared, longest) + costs.NODE_START_H


# ---- money -----------------------------------------------------------------------------------------------------------


def bills_of(expected: Costs) -> dict[str, costs.Bill]:
    return {bill.instance: bill for bill in expected.bills}


def test_each_piece_goes_where_it_costs_least() -> None:
    planned = plan_on(study_of("0.5b"), SMALL, LARGE)
    assert {one.group.name for one in count(planned, SMALL, LARGE).placed} == {"small"}
    dear = RATES.model_copy(update={"hourly": {**RATES.hourly, "s": Rate(on_demand=100)}})
    assert {one.group.name for one in count(planned, SMALL, LARGE, table=dear).placed} == {"large"}


def test_work_pays_for_its_share_of_a_node_and_what_is_always_up_for_all_the_time() -> None:
    spot = LARGE.model_copy(update={"name": "large-spot", "spot": True})
    expected = count(plan_on(study_of("7b"), LARGE, spot), HEAD, spot, LARGE)
    large, head = bills_of(expected)["l"], bills_of(expected)["h"]
    assert (large.most, large.node_hours) == (4, pytest.approx(large.gpu_hours / 8))
    assert (large.on_demand, large.spot) == (
        pytest.approx(large.node_hours * 40),
        pytest.approx(large.node_hours * 10),
    )
    assert head.node_hours == expected.hours
    assert head.on_demand == head.spot == pytest.approx(expected.hours * 0.5)  # no group rents it on spot


def test_machines_without_a_price_are_used_and_said_to_have_none() -> None:
    table = RATES.model_copy(update={"hourly": {}})
    [bill] = count(plan_on(study_of("0.5b"), LARGE), LARGE, table=table).bills
    assert (bill.on_demand, bill.spot) == (None, None)
    assert bill.gpu_hours > 0


# ---- the command -----------------------------------------------------------------------------------------------------


def grid_job(*options: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "jobs" / "grid.py"), "--study", "newnews", *options]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)


def test_the_command_shows_hours_money_and_time_and_writes_nothing(tmp_path: Path) -> None:
    file = ROOT / "clusters" / "aws.yaml"
    shown = grid_job("--models", "qwen2.5-72b", "--plan", "--cluster", str(file), folder=tmp_path)
    assert shown.returncode == 0, shown.stderr
    for text in ("p5en.48xlarge", "Money, in USD, at prices of", "time: at least", "clusters/prices.yaml"):
        assert text in shown.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cluster", "a.yaml"], "--cluster only plans: add --plan"),
        (["--plan", "--prices", "p.yaml"], "add --cluster FILE"),
        (["--plan", "--cluster", "a.yaml", "--device", "cpu"], "leave out --device, --max-gpus"),
        (["--plan", "--cluster", "a.yaml"], "a.yaml: cannot be read (No such file or directory)"),
    ],
)
def test_options_that_would_not_be_heeded_are_refused(options: list[str], message: str, tmp_path: Path) -> None:
    refused = grid_job(*options, folder=tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert message in refused.stderr
