"""What a cluster has is planned for; what it may grow to is asked for and waited for. Ray's nodes are made up here."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from engine import UserError
from engine.cluster import nodes, reach, session
from engine.cluster.machines import ASSUMED, GIB, NodeType, ServingPlacement

ON_GPUS = ServingPlacement(device="gpu", threads=1, tensor_parallel=4, fits=True)


def node(gpus: int = 0, name: str = "", **resources: float) -> dict[str, Any]:
    named = {f"accelerator_type:{name}": 1.0} if name else {}
    has = {"CPU": 8.0, "memory": 10.0 * GIB, **({"GPU": float(gpus)} if gpus else {}), **named, **resources}
    return {"NodeID": f"{gpus}-{name}", "Alive": True, "Resources": has}


class MadeUp:
    """A cluster whose next node comes up a while after it is asked for."""

    def __init__(self, up: Sequence[dict[str, Any]], coming: Sequence[dict[str, Any]] = (), max_gpus: int = 0) -> None:
        self.up, self.coming, self.asked, self.now = list(up), list(coming), [], 0.0  # type: ignore[var-annotated]
        self.measured: dict[str, list[float]] = {}
        self.max_gpus = max_gpus

    def ask(self, bundles: Sequence[Any]) -> None:
        self.asked.append(list(bundles))

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.coming and self.now > 60:
            self.up.append(self.coming.pop(0))

    def install(self, patch: pytest.MonkeyPatch) -> "MadeUp":
        patch.setattr(session, "live_nodes", lambda: self.up)
        patch.setattr(session, "ask_for_nodes", self.ask)
        patch.setattr(session, "measure_gpus", lambda one: self.measured.get(one["NodeID"], []))
        patch.setitem(session.growth, "GPU", float(self.max_gpus))
        patch.setattr("time.sleep", self.sleep)
        patch.setattr("time.monotonic", lambda: self.now)
        return self


@pytest.fixture
def patch(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    with monkeypatch.context() as context:
        yield context


# ---- what a cluster is planned as ------------------------------------------------------------------------------------


def test_nodes_are_grouped_by_their_gpus_and_measured_once_for_each_kind(patch: pytest.MonkeyPatch) -> None:
    made = MadeUp([node(), node(8, "H100"), node(8, "H100"), node(4, "A100")]).install(patch)
    made.measured["8-H100"] = [79.6] * 8
    cluster = reach.describe_cluster(None, 0, may_grow=True)
    assert cluster.nodes == (
        NodeType(device="gpu", n_cpus=8, n_gpus=8, device_gib=79.6, count=2, accelerator="H100"),
        NodeType(device="gpu", n_cpus=8, n_gpus=4, device_gib=40.0, count=1, accelerator="A100"),  # by its name
    )
    assert [(g.accelerator, g.per_node, g.total) for g in cluster.gpus] == [("H100", 8, 16), ("A100", 4, 4)]


def test_gpus_of_unknown_memory_are_named(patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    MadeUp([node(8), node(8, "H100")]).install(patch)
    assert [n.device_gib for n in reach.describe_cluster(None, 0, may_grow=True).nodes] == [80.0, 79.6]
    assert capsys.readouterr().out == "Nothing tells the memory of nameless GPUs: planned for 80 GiB each.\n"


def test_gpus_of_one_name_count_as_the_smallest(patch: pytest.MonkeyPatch) -> None:
    made = MadeUp([node(8, "A100"), node(1, "A100")]).install(patch)
    made.measured |= {"8-A100": [80.0] * 8, "1-A100": [40.0]}
    [gpus] = reach.describe_cluster(None, 64, may_grow=True).gpus
    assert (gpus.gib, gpus.per_node, gpus.total) == (40.0, 8, 64)


def test_a_cluster_without_gpus_is_planned_as_its_smallest_node(patch: pytest.MonkeyPatch) -> None:
    MadeUp([node(), node(CPU=4.0, memory=6.0 * GIB, object_store_memory=2.0 * GIB), node(CPU=0.0)]).install(patch)
    cluster = reach.describe_cluster(None, 0, may_grow=True)
    assert cluster.nodes == (NodeType(device="cpu", n_cpus=4, n_gpus=0, device_gib=8.0, count=2),)
    MadeUp([node(CPU=0.0)]).install(patch)
    with pytest.raises(UserError, match="no node of the cluster has a CPU"):
        reach.describe_cluster(None, 0, may_grow=True)
    with pytest.raises(UserError, match="no node of the cluster has a GPU; use --device cpu, or --max-gpus N"):
        reach.describe_cluster("gpu", 0, may_grow=True)


def test_a_cluster_without_nodes_is_asked_for_its_first_gpu_unless_nothing_may_start(patch: pytest.MonkeyPatch) -> None:
    made = MadeUp([node()], [node(2, "L4")]).install(patch)
    assert reach.describe_cluster(None, 16, may_grow=False).nodes == (ASSUMED,)
    assert made.asked == []
    cluster = reach.describe_cluster(None, 16, may_grow=True)
    assert [(n.n_gpus, n.device_gib, n.accelerator) for n in cluster.nodes] == [(2, nodes.KNOWN_GIB["L4"], "L4")]
    assert made.asked == [[{"GPU": 1.0}], []]  # and it is not kept for ever


# ---- waiting ---------------------------------------------------------------------------------------------------------


def test_what_can_never_run_is_refused_at_once(patch: pytest.MonkeyPatch) -> None:
    made = MadeUp([node(2)]).install(patch)
    unfit = ServingPlacement(device="gpu", threads=1, tensor_parallel=2, fits=False, reason="too large")
    assert reach.wait_for_nodes({"a": ON_GPUS, "b": unfit}) == {
        "a": "needs 4 GPUs of one node, the largest node has 2",
        "b": "does not fit: too large",
    }
    assert (made.asked, made.now) == ([], 0.0)


def test_what_the_cluster_may_grow_to_is_asked_for_and_waited_for(
    patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = MadeUp([node(2)], [node(2), node(4)], max_gpus=8).install(patch)
    assert reach.wait_for_nodes({"a": ON_GPUS}) == {}
    assert made.asked == [[{"GPU": 4.0}], []]
    assert "Waiting for nodes with 1 × 4 GPUs on one node, at most 20 min" in capsys.readouterr().out


def test_what_takes_less_does_not_wait_for_what_takes_more(patch: pytest.MonkeyPatch) -> None:
    made = MadeUp([node()], [node(2)], max_gpus=8).install(patch)
    small = replace(ON_GPUS, tensor_parallel=2)
    assert list(reach.wait_for_nodes({"large": ON_GPUS, "small": small})) == ["large"]
    assert made.asked == [[{"GPU": 2.0}], [], [{"GPU": 4.0}], []]


def test_waiting_has_an_end(patch: pytest.MonkeyPatch) -> None:
    made = MadeUp([node(2)], max_gpus=8).install(patch)
    [why] = reach.wait_for_nodes({"a": ON_GPUS}).values()
    assert why == "needs 4 GPUs of one node, the largest node has 2; no other came up in 20 min"
    assert made.now == pytest.approx(20 * 60, abs=10)
    assert made.asked[-1] == []


def test_a_command_says_what_it_cannot_run(patch: pytest.MonkeyPatch) -> None:
    MadeUp([node(2)]).install(patch)
    with pytest.raises(UserError, match="vLLM with a model needs 4 GPUs of one node"):
        reach.require(ON_GPUS, "vLLM with a model")
