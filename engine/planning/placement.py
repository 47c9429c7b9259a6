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
MICRO_BATCH_TOKENS: dict[Device, int] = {"cpu": 2048, "gpu": 8192}
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
    checkpoint_activations: bool  # recompute activations in the backward pass instead of keeping them
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
    """Operations to train on `n_tokens` of elements `2·context` tokens long. LoRA spares the base's gradients."""
    forward = forward_flops(arch, context)
    if training.method == "full":
        return 3.0 * forward * n_tokens
    return (2.0 * forward + 6.0 * n_params_lora(arch, training.lora_rank)) * n_tokens


def selfplay_flops(arch: Architecture, prompt_tokens: float, new_tokens: float, context: float) -> float:
    """Operations to read prompts and write completions (without what a prefix cache saves)."""
    return forward_flops(arch, context) * (prompt_tokens + new_tokens)


def train_bytes(
    arch: Architecture, training: Training, precision: Precision, stage: int, n: int, tokens: int, recompute: bool
) -> float:
    """Bytes a device in training under ZeRO `stage` on `n` devices with micro-batches of `tokens`.

    Trained parameters take gradient, float32 master copy (in bfloat16) and two float32 moments.
    """
    width, weights = BYTES[precision], n_params(arch) * BYTES[precision]
    trained = n_params(arch) if training.method == "full" else n_params_lora(arch, training.lora_rank)
    optimizer = trained * (8 if precision == "float32" else 12) / (n if stage >= 1 else 1)
    gradients = trained * width / (n if stage >= 2 else 1)
    return weights / (n if stage == 3 else 1) + optimizer + gradients + activation_bytes(arch, width, tokens, recompute)


def activation_bytes(arch: Architecture, width: int, tokens: int, recompute: bool) -> float:
    """Bytes of kept activations (Korthikanti et al. 2022, arXiv 2205.05198, gated MLP) and of the logits in float32."""
    per_layer = 16 * arch.hidden_size + 4 * arch.intermediate_size
    kept = arch.n_layers * arch.hidden_size + per_layer if recompute else arch.n_layers * per_layer
    return float(tokens) * (width * kept + 8 * arch.vocab_size)


def profile(arch: Architecture, training: Training, precision: Precision, machine: Machine) -> Profile:
    """How to train and run the model on this machine, and whether it fits."""
    if machine.device == "cpu":
        return cpu_profile(arch, training, precision, machine)
    return gpu_profile(arch, training, precision, machine)


def cpu_profile(arch: Architecture, training: Training, precision: Precision, machine: Machine) -> Profile:
    """One worker with all cores: on CPU a second process only fights for them."""
    tokens = MICRO_BATCH_TOKENS["cpu"]
    needed = train_bytes(arch, training, precision, 0, 1, tokens, recompute=False) / GIB
    fits = needed <= USABLE * machine.device_gib
    return Profile(
        device="cpu",
        threads=machine.n_cpus,
        n_workers=1,
        zero_stage=0,
        tensor_parallel=1,
        micro_batch_tokens=tokens,
        checkpoint_activations=False,
        memory_gib=needed,
        fits=fits,
        reason="one worker, all cores" if fits else f"needs {needed:.0f} GiB of {machine.device_gib:.0f}",
    )


def gpu_profile(arch: Architecture, training: Training, precision: Precision, machine: Machine) -> Profile:
    """The fewest GPUs that hold it, then without recomputing if possible, then the lowest ZeRO stage."""
    tokens, room = MICRO_BATCH_TOKENS["gpu"], USABLE * machine.device_gib * GIB
    options = [(n, r, s) for n, r, s in product(N_GPUS, (False, True), (0, 1, 2, 3)) if n > 1 or s == 0]
    needs = {o: train_bytes(arch, training, precision, o[2], o[0], tokens, o[1]) for o in options}
    n, recompute, stage = next((o for o in options if needs[o] <= room), options[-1])
    weights = n_params(arch) * BYTES[precision]
    parallel = [k for k in (1, 2, 4, 8) if weights / k + KV_CACHE_GIB["gpu"] * GIB <= room]
    needed = needs[(n, recompute, stage)]
    fits = needed <= room and bool(parallel) and max(n, parallel[0]) <= machine.n_gpus
    return Profile(
        device="gpu",
        threads=1,
        n_workers=n,
        zero_stage=stage,
        tensor_parallel=parallel[0] if parallel else 8,
        micro_batch_tokens=tokens,
        checkpoint_activations=recompute,
        memory_gib=needed / GIB,
        fits=fits,
        reason=f"{n} GPU(s), ZeRO {stage}" + (", activations recomputed" if recompute else ""),
    )


# ---- what a trial will take ------------------------------------------------------------------------------------------

NOMINAL_FLOPS: dict[Device, float] = {"cpu": 30e9, "gpu": 350e12}  # a core, a GPU: reached, not peak
START_S = 30.0  # processes of one fine-tune
CHARS_A_TOKEN, CHAT_TOKENS, ELEMENT_TOKENS = 4.0, 30, 45
DECODING_SLOWDOWN = 3.0  # writing token by token, against training's operations a second


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What a trial will take: tokens, operations, seconds on this machine, and what the seconds rest on."""

    train_tokens: float
    train_flops: float
    selfplay_flops: float
    seconds: float
    basis: str


def estimate(
    arch: Architecture,
    writer: Architecture | None,
    training: Training,
    where: Profile,
    n_elements: int,
    news_chars: float,
    in_front: bool,
    measured: float | None,
) -> Estimate:
    """Estimates a trial of `n_elements` replay elements about items of `news_chars` characters.

    `writer`: the generator, None if nothing is generated; `in_front`: the news stands in front of each element;
    `measured`: operations a second of trials done before on this storage, else a nominal speed is used.
    """
    news_tokens = news_chars / CHARS_A_TOKEN
    length = CHAT_TOKENS + (ELEMENT_TOKENS if writer else news_tokens) + (news_tokens if in_front else 0)
    tokens = training.epochs * n_elements * length
    train = train_flops(arch, training, tokens, length / 2)
    wrote = n_elements * (CHAT_TOKENS + news_tokens + ELEMENT_TOKENS) if writer else 0.0
    play = selfplay_flops(writer, wrote, 0.0, length) if writer else 0.0
    speed = measured or NOMINAL_FLOPS[where.device] * (where.n_workers if where.device == "gpu" else where.threads)
    basis = "speed of trials done here" if measured else f"nominal {speed:.2g} FLOP/s"
    seconds = START_S + train / speed + DECODING_SLOWDOWN * play / speed
    return Estimate(train_tokens=tokens, train_flops=train, selfplay_flops=play, seconds=seconds, basis=basis)
