"""How a model runs on a machine: serving (vLLM) and training (DeepSpeed), each by what its memory needs."""

from itertools import product

from engine.cluster.machines import GIB, KV_CACHE_GIB, Device, Machine, ServingPlacement, TrainingPlacement
from engine.models.architecture import Architecture, n_params
from engine.models.arithmetic import BYTES, train_bytes
from engine.study import Precision, Training

USABLE = 0.85  # share of a device's memory that is planned for; the rest is fragmentation and libraries
# Tokens of one micro-batch: enough to fill the device, few enough for the activations.
MICRO_BATCH_TOKENS: dict[Device, int] = {"cpu": 2048, "gpu": 8192}
N_GPUS = (1, 2, 4, 8, 16, 32)
TENSOR_PARALLEL = (1, 2, 4, 8)


def place_serving(arch: Architecture, precision: Precision, machine: Machine) -> ServingPlacement:
    """On a CPU one engine with all cores; else the fewest GPUs that hold the weights and a cache of keys and values."""
    if machine.device == "cpu":
        return ServingPlacement(device="cpu", threads=machine.n_cpus, tensor_parallel=1, fits=True)
    weights, room = n_params(arch) * BYTES[precision], USABLE * machine.device_gib * GIB
    enough = [k for k in TENSOR_PARALLEL if weights / k + KV_CACHE_GIB["gpu"] * GIB <= room and k <= machine.n_gpus]
    parallel = enough[0] if enough else TENSOR_PARALLEL[-1]
    return ServingPlacement(device="gpu", threads=1, tensor_parallel=parallel, fits=bool(enough))


def place_training(arch: Architecture, training: Training, precision: Precision, machine: Machine) -> TrainingPlacement:
    """How to train the model on this machine, and whether it fits."""
    if machine.device == "cpu":
        return place_on_cpu(arch, training, precision, machine)
    return place_on_gpus(arch, training, precision, machine)


def place_on_cpu(arch: Architecture, training: Training, precision: Precision, machine: Machine) -> TrainingPlacement:
    """One worker with all cores: on a CPU a second process only competes for them."""
    tokens = MICRO_BATCH_TOKENS["cpu"]
    needed = train_bytes(arch, training, precision, 0, 1, tokens, recompute=False) / GIB
    fits = needed <= USABLE * machine.device_gib
    return TrainingPlacement(
        device="cpu",
        threads=machine.n_cpus,
        n_workers=1,
        zero_stage=0,
        micro_batch_tokens=tokens,
        recompute=False,
        memory_gib=needed,
        fits=fits,
        reason="one worker, all cores" if fits else f"needs {needed:.0f} GiB of {machine.device_gib:.0f}",
    )


def place_on_gpus(arch: Architecture, training: Training, precision: Precision, machine: Machine) -> TrainingPlacement:
    """The fewest GPUs that hold it, then without recomputing if possible, then the lowest ZeRO stage."""
    tokens, room = MICRO_BATCH_TOKENS["gpu"], USABLE * machine.device_gib * GIB
    options = [(n, r, s) for n, r, s in product(N_GPUS, (False, True), (0, 1, 2, 3)) if n > 1 or s == 0]
    needs = {o: train_bytes(arch, training, precision, o[2], o[0], tokens, o[1]) for o in options}
    n, recompute, stage = next((o for o in options if needs[o] <= room), options[-1])
    needed = needs[(n, recompute, stage)]
    return TrainingPlacement(
        device="gpu",
        threads=1,
        n_workers=n,
        zero_stage=stage,
        micro_batch_tokens=tokens,
        recompute=recompute,
        memory_gib=needed / GIB,
        fits=needed <= room and n <= machine.n_gpus,
        reason=f"{n} GPU(s), ZeRO {stage}" + (", activations recomputed" if recompute else ""),
    )
