"""Which trials run together, and which can never run: the policy on placements, without a cluster."""

from dataclasses import replace

import pytest

from engine.cluster import policy
from engine.cluster.machines import GIB, ServingPlacement, TrainingPlacement

ON_CPU = TrainingPlacement(
    device="cpu",
    threads=8,
    n_workers=1,
    zero_stage=0,
    micro_batch_tokens=2048,
    recompute=False,
    memory_gib=4,
    fits=True,
    reason="one worker, all cores",
)
ON_GPUS = replace(ON_CPU, device="gpu", n_workers=4, zero_stage=3, reason="4 GPU(s), ZeRO 3")
SERVED = ServingPlacement(device="gpu", threads=1, tensor_parallel=4, fits=True)
SERVED_ON_CPU = replace(SERVED, device="cpu", threads=2, tensor_parallel=1)


def test_trials_of_equal_need_form_a_group_in_the_order_in_which_they_come() -> None:
    needs = {"a": ON_GPUS, "b": ON_CPU, "c": replace(ON_GPUS, n_workers=8), "d": ON_GPUS}
    assert policy.group_by_need(needs) == [["a", "d"], ["b"], ["c"]]


H100 = {"CPU": 64.0, "GPU": 8.0, "accelerator_type:H100": 1.0}
A100 = {"CPU": 64.0, "GPU": 2.0, "accelerator_type:A100": 1.0}


@pytest.mark.parametrize(
    ("need", "nodes", "reason"),
    [
        (ON_GPUS, [{"GPU": 2.0}, {"GPU": 2.0}], None),
        (ON_GPUS, [{"GPU": 2.0}, {"GPU": 1.0}, {"CPU": 9.0}], "needs 4 GPUs, the cluster has 3"),
        (ON_GPUS, [], "needs 4 GPUs, the cluster has 0"),
        (SERVED, [{"GPU": 4.0}], None),
        (SERVED, [{"GPU": 2.0}, {"GPU": 3.0}], "needs 4 GPUs of one node, the largest node has 3"),
        (replace(SERVED, accelerator="H100"), [A100, H100], None),
        (replace(SERVED, accelerator="A100"), [A100, H100], "needs 4 A100 GPUs of one node, the largest node has 2"),
        (replace(ON_GPUS, accelerator="A100"), [A100, H100], "needs 4 A100 GPUs, the cluster has 2"),
        (replace(ON_GPUS, accelerator="A100"), [A100, A100], None),
        (ON_CPU, [{"CPU": 2.0}], None),
        (ON_CPU, [{"GPU": 2.0}], "needs 1 CPUs, the cluster has 0"),
        (replace(ON_CPU, n_workers=64), [{"CPU": 2.0}], "needs 64 CPUs, the cluster has 2"),
        (SERVED_ON_CPU, [{"CPU": 2.0}, {"CPU": 2.0}], None),
        (SERVED_ON_CPU, [{"CPU": 1.0}, {"CPU": 1.0}], "needs 2 CPUs of one node, the largest node has 1"),
        (replace(ON_CPU, fits=False, reason="needs 90 GiB of 24"), [{"CPU": 2.0}], "does not fit: needs 90 GiB of 24"),
    ],
)
def test_what_the_nodes_cannot_run_says_why(
    need: policy.Need, nodes: list[dict[str, float]], reason: str | None
) -> None:
    assert policy.why_unplaceable(need, nodes) == reason


@pytest.mark.parametrize(("memory_gib", "n_trials", "together"), [(100, 20, 8), (100, 3, 3), (9, 20, 2), (1, 20, 1)])
def test_on_a_cpu_cores_and_memory_limit_how_many_run_at_once(memory_gib: int, n_trials: int, together: int) -> None:
    free = {"CPU": 8.0, "memory": float(memory_gib * GIB)}
    assert policy.n_together(n_trials, ON_CPU, free, {"CPU": 8.0}) == together


def test_on_gpus_as_many_run_at_once_as_the_largest_cluster_has_room_for() -> None:
    assert policy.n_together(20, ON_GPUS, {}, {"GPU": 13.0}) == 3
