"""What a trial will take: tokens, operations and seconds, from its size and from what trials took before.

A training step takes what trials of the same model, device and number of workers took per operation. Where none has
run yet, it takes on a CPU its operations at `NOMINAL_FLOPS`, and on GPUs the longest of

    launching     LAUNCH_S per layer and micro-batch, half as much again with recomputation: a step of some hundred
                  tokens waits for the processor that launches its kernels (0.12 s with 24 layers, 0.38 s with 80)
    arithmetic    its operations at `NOMINAL_FLOPS` per GPU, or at the share of it that a slower kind of GPU reaches
    gathering     in ZeRO stage 3, the weights of the other GPUs once per pass, at GATHER_BYTES_S

These constants come from reading, not from measurements: expect a factor of two.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from engine.cluster.machines import Device, Estimate, TrainingPlacement
from engine.cluster.nodes import RELATIVE_SPEED
from engine.inference.settings import MAX_CONTEXT
from engine.models import catalogue
from engine.models.architecture import Architecture, n_params
from engine.models.arithmetic import BYTES, forward_flops, selfplay_flops, train_flops
from engine.news.items import NewsItem
from engine.selfplay import protocols
from engine.storage.ledger import Ledger
from engine.study import Trial

NOMINAL_FLOPS: dict[Device, float] = {"cpu": 30e9, "gpu": 350e12}  # per core, per H100: reached, not peak
LAUNCH_S, GATHER_BYTES_S = 0.0048, 145e9
START_S = 30.0  # processes of one fine-tune
LOAD_BYTES_S = 0.85e9  # of weights, into the memory of devices
CHARS_PER_TOKEN, CHAT_TOKENS, ELEMENT_TOKENS = 4.0, 30, 45
Ran = tuple[str, str, int]  # trainee, device, workers: trials alike in these train equally fast
Speeds = Mapping[Ran, float]  # training operations per second


def measured_speeds(ledger: Ledger) -> Speeds:
    """Training operations per second of the trials that this study's storage has, per model, device and world size."""
    flops: dict[Ran, float] = {}
    seconds: dict[Ran, float] = {}
    for trial, trained in ledger.all_trained():
        ran = (trial.trainee, trained.device, trained.n_workers)
        flops[ran] = flops.get(ran, 0.0) + trained.train_flops
        seconds[ran] = seconds.get(ran, 0.0) + trained.train_seconds
    return {ran: flops[ran] / seconds[ran] for ran in flops if seconds[ran]}


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """What a trial trains: tokens and operations of all its steps, mean tokens of an element, bytes of the weights."""

    arch: Architecture
    tokens: float
    length: float
    steps: int
    flops: float
    weight_bytes: float


def size_of(trial: Trial, items: Sequence[NewsItem]) -> Size:
    """The size of a trial on these items."""
    arch, training = catalogue.find(trial.trainee).architecture, trial.training
    news, n_elements = news_tokens(items), trial.budget * len(items)
    text = ELEMENT_TOKENS if protocols.find(trial.protocol).write else news
    length = CHAT_TOKENS + text + (news if trial.context_mode != "none" else 0)
    tokens = training.epochs * n_elements * length
    return Size(
        arch=arch,
        tokens=tokens,
        length=length,
        steps=training.epochs * math.ceil(n_elements / training.batch_size),
        flops=train_flops(arch, training, tokens, length / 2),
        weight_bytes=float(n_params(arch) * BYTES[trial.precision]),
    )


def nominal_flops(device: Device, n: int, accelerator: str = "") -> float:
    """Operations per second to expect of n cores or GPUs; GPUs of an unknown kind count as H100s."""
    return NOMINAL_FLOPS[device] * n * RELATIVE_SPEED.get(accelerator, 1.0)


def train_seconds(size: Size, place: TrainingPlacement, speed: float | None) -> tuple[float, str]:
    """Seconds of all steps of a trial, and what that rests on; `speed`: operations per second that were measured."""
    if speed:
        return size.flops / speed, "speed of trials done here"
    if place.device == "cpu":
        speed = nominal_flops("cpu", place.threads)
        return size.flops / speed, f"nominal {speed:.2g} FLOP/s"
    per_gpu = nominal_flops("gpu", 1, place.accelerator)
    basis = f"nominal {LAUNCH_S * 1e3:g} ms per layer and micro-batch, {per_gpu:.2g} FLOP/s per GPU"
    return size.steps * step_seconds(size, place), basis


def step_seconds(size: Size, place: TrainingPlacement) -> float:
    """Seconds of one step on GPUs, by the model above."""
    again, passes = (1.5, 3) if place.recompute else (1.0, 2)
    tokens = size.tokens / size.steps
    micro_batches = math.ceil(tokens / place.n_workers / place.micro_batch_tokens)
    launching = LAUNCH_S * size.arch.n_layers * micro_batches * again
    recomputing = forward_flops(size.arch, size.length / 2) * tokens if place.recompute else 0.0
    arithmetic = (size.flops / size.steps + recomputing) / nominal_flops("gpu", place.n_workers, place.accelerator)
    others = size.weight_bytes * (1 - 1 / place.n_workers) if place.zero_stage == 3 else 0.0
    return max(launching, arithmetic, others * passes * micro_batches / GATHER_BYTES_S)


def load_seconds(weight_bytes: float, device: Device, n: int) -> float:
    """Seconds until n devices hold the weights."""
    return weight_bytes / LOAD_BYTES_S / (n if device == "gpu" else 1)


def estimate(trial: Trial, items: Sequence[NewsItem], place: TrainingPlacement, speeds: Speeds) -> Estimate:
    """A trial's fine-tune, its start included, and the operations of its share of the pool."""
    size = size_of(trial, items)
    seconds, basis = train_seconds(size, place, speeds.get((trial.trainee, place.device, place.n_workers)))
    return Estimate(
        train_tokens=size.tokens,
        train_flops=size.flops,
        selfplay_flops=write_flops(trial, items),
        seconds=START_S + load_seconds(size.weight_bytes, place.device, 1) + seconds,
        basis=basis,
    )


def write_flops(trial: Trial, items: Sequence[NewsItem]) -> float:
    """Operations of writing a trial's share of its pool; none if nothing is generated."""
    if not protocols.find(trial.protocol).write:
        return 0.0
    length = CHAT_TOKENS + news_tokens(items) + ELEMENT_TOKENS
    arch = catalogue.find(trial.writer).architecture
    return selfplay_flops(arch, trial.budget * len(items) * length, 0.0, length)


def news_tokens(items: Sequence[NewsItem]) -> float:
    """Mean tokens of the news."""
    return sum(len(item.text) for item in items) / len(items) / CHARS_PER_TOKEN


def longest_element(trial: Trial, items: Iterable[NewsItem]) -> int:
    """Tokens of the longest replay element to expect about these items, under any protocol and context mode.

    So the arms of a study are trained in the same way.
    """
    news = max(len(item.text) for item in items) / CHARS_PER_TOKEN
    return min(MAX_CONTEXT, math.ceil(CHAT_TOKENS + trial.sampling.max_tokens + news))
