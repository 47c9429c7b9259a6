"""What a trial costs: parameters, floating-point operations, memory a device, and time.

Conventions: a multiply-add is two operations; a forward pass costs 2 a matrix parameter and token, its backward pass
2 for the activations and 2 for the trained parameters (Kaplan et al. 2020, arXiv 2001.08361, with attention's own
4·n_layers·width·context added). Memory follows Rajbhandari et al. 2020, arXiv 1910.02054 (ZeRO). GiB are 2^30 bytes.
"""

from dataclasses import dataclass
from itertools import product
from typing import Literal

from engine.architecture import Architecture, n_params, n_params_lora, n_params_non_embedding
from engine.study import Precision, Training

GIB = 2**30
BYTES: dict[Precision, int] = {"float32": 4, "bfloat16": 2}
USABLE = 0.85  # share of a device's memory that is planned for; the rest is fragmentation and libraries
Device = Literal["cpu", "gpu"]
# Tokens of one micro-batch: enough to fill the device, few enough for the activations.
MICRO_BATCH_TOKENS: dict[Device, int] = {"cpu": 2048, "gpu": 16384}
KV_CACHE_GIB: dict[Device, int] = {"cpu": 2, "gpu": 4}
N_GPUS = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """What a job may use: `n_cpus` and `n_gpus` in all, memory of one device in GiB."""

    device: Device
    n_cpus: int
    n_gpus: int
    device_gib: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """How a model runs on a machine, and why. Never part of a trial's identity."""

    device: Device
    threads: int
    n_workers: int
    zero_stage: int
    tensor_parallel: int
    micro_batch_tokens: int
    memory_gib: float  # a device in training
    fits: bool
    reason: str


def matrix_params(arch: Architecture) -> int:
    """Parameters that take part in a matrix product for each token: the layers and the output head."""
    return n_params_non_embedding(arch) + arch.vocab_size * arch.hidden_size


def forward_flops(arch: Architecture, context: float) -> float:
    """Operations to process one token that attends to `context` tokens on average."""
    return 2.0 * matrix_params(arch) + 4.0 * arch.n_layers * arch.n_heads * arch.head_dim * context


def train_flops(arch: Architecture, training: Training, n_tokens: float, context: float) -> float:
    """Operations to train on `n_tokens`, of elements `2·context` tokens long. LoRA spares the base's weight gradients."""
    forward = forward_flops(arch, context)
    if training.method == "full":
        return 3.0 * forward * n_tokens
    return (2.0 * forward + 6.0 * n_params_lora(arch, training.lora_rank)) * n_tokens


def selfplay_flops(arch: Architecture, prompt_tokens: float, new_tokens: float, context: float) -> float:
    """Operations to read prompts and write completions (without what a prefix cache saves)."""
    return forward_flops(arch, context) * (prompt_tokens + new_tokens)


def train_bytes(arch: Architecture, training: Training, precision: Precision, stage: int, n: int, tokens: int) -> float:
    """Bytes a device in training under ZeRO `stage` on `n` devices with micro-batches of `tokens`.

    Trained parameters take gradient, float32 master copy (in bfloat16) and two float32 moments.
    """
    width, weights = BYTES[precision], n_params(arch) * BYTES[precision]
    trained = n_params(arch) if training.method == "full" else n_params_lora(arch, training.lora_rank)
    optimizer = trained * (8 if precision == "float32" else 12) / (n if stage >= 1 else 1)
    gradients = trained * width / (n if stage >= 2 else 1)
    return weights / (n if stage == 3 else 1) + optimizer + gradients + activation_bytes(arch, width, tokens)


def activation_bytes(arch: Architecture, width: int, tokens: int) -> float:
    """Bytes of kept activations (Korthikanti et al. 2022, arXiv 2205.05198, gated MLP) and of the logits in float32."""
    per_layer = 16 * arch.hidden_size + 4 * arch.intermediate_size
    return float(tokens) * (width * arch.n_layers * per_layer + 8 * arch.vocab_size)


def profile(arch: Architecture, training: Training, precision: Precision, machine: Machine) -> Profile:
    """How to train and run the model on this machine: the fewest devices, then the lowest ZeRO stage, that fit."""
    if machine.device == "cpu":
        return cpu_profile(arch, training, precision, machine)
    tokens = MICRO_BATCH_TOKENS["gpu"]
    for n, stage in product([n for n in N_GPUS if n <= machine.n_gpus] or [1], (0, 1, 2, 3)):
        needed = train_bytes(arch, training, precision, stage, n, tokens) / GIB
        if needed <= USABLE * machine.device_gib and not (n == 1 and stage):
            return gpu_profile(arch, precision, machine, n, stage, needed, f"lowest ZeRO stage that fits {n} GPU(s)")
    n = max(N_GPUS)
    needed = train_bytes(arch, training, precision, 3, n, tokens) / GIB
    return gpu_profile(arch, precision, machine, n, 3, needed, f"needs more than {machine.n_gpus} GPU(s)", fits=False)


def cpu_profile(arch: Architecture, training: Training, precision: Precision, machine: Machine) -> Profile:
    """One worker with all cores: on CPU a second process only fights for them."""
    tokens = MICRO_BATCH_TOKENS["cpu"]
    needed = train_bytes(arch, training, precision, 0, 1, tokens) / GIB
    fits = needed <= USABLE * machine.device_gib
    return Profile(
        device="cpu",
        threads=machine.n_cpus,
        n_workers=1,
        zero_stage=0,
        tensor_parallel=1,
        micro_batch_tokens=tokens,
        memory_gib=needed,
        fits=fits,
        reason="one worker with all cores, ZeRO 0" if fits else f"needs {needed:.0f} GiB, there are {machine.device_gib:.0f}",
    )


def gpu_profile(
    arch: Architecture, precision: Precision, machine: Machine, n: int, stage: int, gib: float, reason: str, fits: bool = True
) -> Profile:
    """`n` GPUs in training; in inference the fewest whose memory holds the weights and a KV cache."""
    weights = n_params(arch) * BYTES[precision] / GIB
    parallel = [k for k in (1, 2, 4, 8) if weights / k + KV_CACHE_GIB["gpu"] <= USABLE * machine.device_gib]
    return Profile(
        device="gpu",
        threads=1,
        n_workers=n,
        zero_stage=stage,
        tensor_parallel=parallel[0] if parallel else 8,
        micro_batch_tokens=MICRO_BATCH_TOKENS["gpu"],
        memory_gib=gib,
        fits=fits,
        reason=reason,
    )
