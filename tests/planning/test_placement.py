"""How models are placed on machines: bytes, stages and GPUs with numbers; what was measured speeds up the estimate."""

from dataclasses import replace

import pytest
from conftest import CPU

from engine.cluster.machines import GIB, Machine, TrainingPlacement
from engine.models import catalogue
from engine.models.architecture import n_params, n_params_lora
from engine.models.arithmetic import activation_bytes, train_bytes
from engine.planning import estimate
from engine.planning.placement import place_serving, place_training
from engine.study import Training

FULL, LORA = Training(method="full"), Training()


def node(gib: float = 80, gpus: int = 8) -> Machine:
    return Machine(device="gpu", n_cpus=64, n_gpus=gpus, device_gib=gib)


def test_bytes_of_training_are_those_of_its_parts() -> None:
    """7B in bfloat16, full, 8 devices: 2 + 2 + 12 bytes per parameter, each part shared out from its stage on."""
    arch = catalogue.find("qwen2.5-7b").architecture
    n, kept = n_params(arch), activation_bytes(arch, 2, 1024, recompute=True)
    by_stage = {s: train_bytes(arch, FULL, "bfloat16", s, 8, 1024, recompute=True) - kept for s in range(4)}
    assert by_stage == {
        0: pytest.approx(16 * n),
        1: pytest.approx(4 * n + 12 * n / 8),
        2: pytest.approx(2 * n + 14 * n / 8),
        3: pytest.approx(16 * n / 8),
    }
    adapters = n_params_lora(arch, 16)
    lora = train_bytes(arch, LORA, "float32", 0, 1, 1024, recompute=True) - activation_bytes(arch, 4, 1024, True)
    assert lora == pytest.approx(4 * n + 12 * adapters)


@pytest.mark.parametrize(
    ("name", "training", "gpus", "stage", "tensor_parallel"),
    [
        ("qwen2.5-0.5b", LORA, 1, 0, 1),
        ("qwen2.5-7b", LORA, 1, 0, 1),
        ("qwen2.5-7b", FULL, 4, 1, 1),
        ("qwen2.5-14b", FULL, 8, 2, 1),
        ("qwen2.5-32b", LORA, 2, 3, 1),
        ("qwen2.5-72b", LORA, 4, 3, 4),
        ("qwen2.5-72b", FULL, 32, 3, 4),
    ],
)
def test_the_fewest_gpus_that_hold_a_model_are_taken(
    name: str, training: Training, gpus: int, stage: int, tensor_parallel: int
) -> None:
    arch = catalogue.find(name).architecture
    training_place = place_training(arch, training, "bfloat16", node(gpus=32))
    assert (training_place.n_workers, training_place.zero_stage) == (gpus, stage)
    assert training_place.memory_gib <= 0.85 * 80
    assert place_serving(arch, "bfloat16", node()).tensor_parallel == tensor_parallel


def test_what_does_not_fit_says_so() -> None:
    large = catalogue.find("qwen2.5-72b").architecture
    assert not place_training(large, FULL, "bfloat16", node(gpus=8)).fits
    assert not place_serving(large, "bfloat16", node(gib=24, gpus=4)).fits
    on_cpu = place_training(large, LORA, "float32", CPU)
    assert not on_cpu.fits
    assert f"of {CPU.device_gib}" in on_cpu.reason


def test_a_cpu_trains_and_serves_with_all_cores() -> None:
    arch = catalogue.find("smollm2-135m").architecture
    place = place_training(arch, LORA, "float32", CPU)
    assert (place.threads, place.n_workers, place.zero_stage) == (2, 1, 0)
    # 135M parameters in float32 are half a GiB; the rest is activations and logits of 2,048 tokens.
    assert place.memory_gib == pytest.approx(0.5 + activation_bytes(arch, 4, 2048, False) / GIB, abs=0.1)
    assert place_serving(arch, "float32", CPU).threads == 2


def test_a_measured_speed_counts_for_its_own_model_and_world_size_alone() -> None:
    speeds = {("a", "gpu", 8): 1e15}
    place = place_training(catalogue.find("qwen2.5-72b").architecture, LORA, "bfloat16", node())
    assert estimate.speed_of("a", with_workers(place, 8), speeds) == (1e15, "speed of trials done here")
    for other in (estimate.speed_of("b", with_workers(place, 8), speeds), estimate.speed_of("a", place, speeds)):
        assert other[1].startswith("nominal")


def with_workers(place: TrainingPlacement, n: int) -> TrainingPlacement:
    return replace(place, n_workers=n)
