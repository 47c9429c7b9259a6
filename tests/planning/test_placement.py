"""How models are placed on clusters: bytes, stages and GPUs with numbers."""

from dataclasses import replace

import pytest
from conftest import CPU

from engine.cluster.machines import GIB, Cluster, NodeType
from engine.models import catalogue
from engine.models.architecture import Architecture, n_params, n_params_lora
from engine.models.arithmetic import activation_bytes, cache_bytes, train_bytes
from engine.planning.placement import can_split, place_serving, place_training
from engine.study import Training

FULL, LORA = Training(method="full"), Training()


def nodes(gib: float = 80, gpus: int = 8, count: int = 1, name: str = "") -> NodeType:
    return NodeType(device="gpu", n_cpus=64, n_gpus=gpus, device_gib=gib, count=count, accelerator=name)


def cluster(*types: NodeType, max_gpus: int = 0) -> Cluster:
    return Cluster(nodes=types, max_gpus=max_gpus)


def arch(size: str) -> Architecture:
    return catalogue.find(f"qwen2.5-{size}").architecture


def test_bytes_of_training_are_those_of_its_parts() -> None:
    """7B in bfloat16, full, 8 devices: 2 + 2 + 12 bytes per parameter, each part shared out from its stage on."""
    model = arch("7b")
    n, kept = n_params(model), activation_bytes(model, 2, 1024, recompute=True)
    by_stage = {s: train_bytes(model, FULL, "bfloat16", s, 8, 1024, recompute=True) - kept for s in range(4)}
    assert by_stage == {
        0: pytest.approx(16 * n),
        1: pytest.approx(4 * n + 12 * n / 8),
        2: pytest.approx(2 * n + 14 * n / 8),
        3: pytest.approx(16 * n / 8),
    }
    adapters = n_params_lora(model, 16)
    lora = train_bytes(model, LORA, "float32", 0, 1, 1024, recompute=True) - activation_bytes(model, 4, 1024, True)
    assert lora == pytest.approx(4 * n + 12 * adapters)


LARGE = replace(FULL, batch_size=32)  # ranks never exceed the elements of a step
LONGEST = 380  # tokens of a replay element with news in front of it


@pytest.mark.parametrize(
    ("size", "training", "gpus", "stage", "recompute", "tokens"),
    [
        ("0.5b", LORA, 1, 1, False, 3040),
        ("7b", LORA, 1, 1, False, 3040),
        ("14b", LORA, 1, 1, False, 1520),
        ("32b", LORA, 1, 1, True, 1520),
        ("72b", LORA, 4, 3, False, 760),
        ("7b", FULL, 4, 1, False, 760),
        ("14b", FULL, 8, 2, False, 380),
        ("32b", LARGE, 16, 3, False, 760),
        ("72b", LARGE, 32, 3, False, 380),
    ],
)
def test_the_fewest_gpus_of_80_gib_that_hold_a_training_are_taken(
    size: str, training: Training, gpus: int, stage: int, recompute: bool, tokens: int
) -> None:
    place = place_training(arch(size), training, "bfloat16", cluster(nodes(count=4)), LONGEST)
    assert (place.n_workers, place.zero_stage, place.recompute) == (gpus, stage, recompute)
    assert (place.micro_batch_tokens, place.fits) == (tokens, True)
    assert place.memory_gib <= 0.85 * 80
    assert ("recomputed" in place.reason, f"{tokens:,} tokens" in place.reason) == (recompute, True)


@pytest.mark.parametrize(
    ("size", "gib", "tensor_parallel", "reason"),
    [
        ("14b", 80, 1, "256 sequences"),
        ("32b", 80, 2, "256 sequences"),  # one would hold the weights, and a tenth of the sequences
        ("72b", 80, 4, "256 sequences"),
        ("7b", 24, 2, "256 sequences"),
        ("32b", 24, 8, "256 sequences"),
    ],
)
def test_the_fewest_gpus_that_hold_a_model_and_all_that_it_serves_are_taken(
    size: str, gib: float, tensor_parallel: int, reason: str
) -> None:
    serving = place_serving(arch(size), "bfloat16", cluster(nodes(gib, gpus=8)))
    assert (serving.tensor_parallel, serving.fits) == (tensor_parallel, True)
    assert reason in serving.reason


def test_a_model_is_served_with_fewer_sequences_where_no_node_has_room_for_all() -> None:
    serving = place_serving(arch("32b"), "bfloat16", cluster(nodes(gpus=1)))
    assert (serving.tensor_parallel, serving.fits, serving.reason) == (
        1,
        True,
        "1 GPU(s), 16% of 256 sequences at once",
    )


def test_heads_are_shared_out_as_vllm_demands() -> None:
    """The 7B has 28 heads: eight GPUs cannot share them. Four heads of keys are doubled on eight GPUs, not on three."""
    assert [k for k in (1, 2, 3, 4, 7, 8) if can_split(arch("7b"), k)] == [1, 2, 4]
    assert [k for k in (1, 2, 3, 4, 5, 8, 16) if can_split(arch("14b"), k)] == [1, 2, 4, 8]
    doubled = replace(arch("72b"), n_kv_heads=4)
    assert can_split(doubled, 8)
    assert cache_bytes(doubled, "bfloat16", 8, 10) == cache_bytes(doubled, "bfloat16", 4, 10)


def test_what_does_not_fit_says_what_would_make_it_fit() -> None:
    large, two_nodes = arch("72b"), cluster(nodes(), nodes(gpus=1, count=8))
    short = place_training(large, FULL, "bfloat16", two_nodes, LONGEST)
    assert not short.fits
    assert "use a batch_size of 32 or more; the cluster has 16" in short.reason
    no_node = place_serving(large, "bfloat16", cluster(nodes(gib=24, gpus=4, count=99)))
    assert not no_node.fits
    assert "4 GPU(s) of one node need 38 GiB each, of which 20 may be used" in no_node.reason
    on_cpu = place_training(large, LORA, "float32", CPU)
    assert not on_cpu.fits
    assert f"of {CPU.nodes[0].device_gib}" in on_cpu.reason


def test_training_spans_nodes_and_counts_those_that_may_come() -> None:
    assert place_training(arch("72b"), LARGE, "bfloat16", cluster(nodes(count=4)), LONGEST).fits
    assert not place_training(arch("72b"), LARGE, "bfloat16", cluster(nodes(count=3)), LONGEST).fits
    assert place_training(arch("72b"), LARGE, "bfloat16", cluster(nodes(), max_gpus=32), LONGEST).fits
    one_each = cluster(nodes(gpus=1, count=8))
    assert place_training(arch("72b"), LORA, "bfloat16", one_each, LONGEST).fits
    assert not place_serving(arch("72b"), "bfloat16", one_each).fits


def test_on_mixed_gpus_a_model_goes_where_it_takes_the_fewest() -> None:
    mixed = cluster(nodes(40, name="A100", count=9), nodes(79.6, name="H100"), nodes(140, name="H200", gpus=2))
    small, large = (place_training(arch(s), LORA, "bfloat16", mixed, LONGEST) for s in ("0.5b", "32b"))
    assert (small.accelerator, small.n_workers) == ("", 1)
    assert (large.accelerator, large.n_workers) == ("H100", 1)  # more of them than of the H200
    served = place_serving(arch("32b"), "bfloat16", mixed)
    assert (served.accelerator, served.tensor_parallel) == ("H200", 1)
    anywhere = place_training(arch("14b"), LORA, "bfloat16", mixed, LONGEST)
    assert (anywhere.accelerator, anywhere.recompute) == ("", True)  # as the smallest of them needs it


def test_a_cpu_trains_and_serves_with_all_cores() -> None:
    model = catalogue.find("smollm2-135m").architecture
    place = place_training(model, LORA, "float32", CPU)
    assert (place.threads, place.n_workers, place.zero_stage) == (2, 1, 0)
    # 135M parameters in float32 are half a GiB; the rest is activations and logits of 2,048 tokens.
    assert place.memory_gib == pytest.approx(0.5 + activation_bytes(model, 4, 2048, False) / GIB, abs=0.1)
    assert place_serving(model, "float32", CPU).threads == 2
    assert place_training(model, LORA, "bfloat16", CPU).zero_stage == 1  # the optimizer that GPUs have
