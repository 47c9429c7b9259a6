"""How a model runs on a cluster: serving (vLLM) and training (DeepSpeed), each by what its memory needs.

On GPUs of several kinds a model goes to the kind of which it takes the fewest GPUs; to any of them, if it takes as many
of each.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from math import ceil
from typing import NamedTuple, TypeVar

from engine.cluster.machines import GIB, KV_CACHE_GIB, Cluster, Device, Gpus, ServingPlacement, TrainingPlacement
from engine.inference.settings import MAX_CONTEXT, MAX_SEQUENCES
from engine.models.architecture import Architecture, n_params
from engine.models.arithmetic import (
    BYTES,
    activation_bytes,
    buffer_bytes,
    cache_bytes,
    gradient_copy_bytes,
    train_bytes,
)
from engine.study import Precision, Training

USABLE = 0.85  # share of a device's memory that is planned for; the rest is fragmentation and libraries
# Tokens of one micro-batch at most: enough to fill the device, few enough for the activations.
MICRO_BATCH_TOKENS: dict[Device, int] = {"cpu": 2048, "gpu": 8192}
N_GPUS = (1, 2, 4, 8, 16, 32)
TENSOR_PARALLEL = (1, 2, 4, 8)
SEQUENCE_TOKENS = 700  # of one sequence that is served: the news, a prompt, what is written
P = TypeVar("P", ServingPlacement, TrainingPlacement)


def choose(kinds: Sequence[Gpus], place: Callable[[Gpus], P], n_gpus: Callable[[P], int]) -> P:
    """The placement on the kind of GPU that it takes the fewest of; if none holds it, on the kind with most memory."""
    placed = [(kind, place(kind)) for kind in kinds]
    fitting = [(kind, p) for kind, p in placed if p.fits]
    if not fitting:
        return max(placed, key=lambda one: one[0].gib)[1]
    fewest = min(n_gpus(p) for _, p in fitting)
    able = [(kind, p) for kind, p in fitting if n_gpus(p) == fewest]
    if len(able) == len(kinds):  # what the smallest holds, all hold
        return min(able, key=lambda one: one[0].gib)[1]
    kind, chosen = max(able, key=lambda one: one[0].total)
    return replace(chosen, accelerator=kind.accelerator)


# ---- serving ---------------------------------------------------------------------------------------------------------


@cache
def place_serving(arch: Architecture, precision: Precision, cluster: Cluster) -> ServingPlacement:
    """On a CPU one engine with all cores; else the fewest GPUs of one node that hold the weights and a cache."""
    if cluster.device == "cpu":
        return ServingPlacement(device="cpu", threads=cluster.nodes[0].n_cpus, tensor_parallel=1, fits=True)
    return choose(cluster.gpus, lambda gpus: serve_on(arch, precision, gpus), lambda p: p.tensor_parallel)


def serve_on(arch: Architecture, precision: Precision, gpus: Gpus) -> ServingPlacement:
    """On GPUs of one kind: the fewest whose cache holds all sequences that vLLM would run at once.

    Where none does, all that can share the model, with fewer sequences at once.
    """
    weights, room = n_params(arch) * BYTES[precision], USABLE * gpus.gib * GIB
    splits = [k for k in TENSOR_PARALLEL if can_split(arch, k) and k <= min(gpus.per_node, gpus.total)]
    free = {k: room - weights / k for k in splits}
    wanted = {k: cache_bytes(arch, precision, k, MAX_SEQUENCES["gpu"] * SEQUENCE_TOKENS) for k in splits}
    if enough := [k for k in splits if wanted[k] <= free[k]]:
        return on_gpus(enough[0], True, f"{enough[0]} GPU(s), {MAX_SEQUENCES['gpu']} sequences at once")
    if fewer := [k for k in splits if free[k] >= KV_CACHE_GIB["gpu"] * GIB]:
        k = fewer[-1]
        return on_gpus(k, True, f"{k} GPU(s), {free[k] / wanted[k]:.0%} of {MAX_SEQUENCES['gpu']} sequences at once")
    most = max(splits, default=1)
    needed = weights / most / GIB + KV_CACHE_GIB["gpu"]
    why = f"{most} GPU(s) of one node need {needed:.0f} GiB each, of which {room / GIB:.0f} may be used"
    return on_gpus(most, False, why)


def on_gpus(n: int, fits: bool, reason: str) -> ServingPlacement:
    return ServingPlacement(device="gpu", threads=1, tensor_parallel=n, fits=fits, reason=reason)


def can_split(arch: Architecture, n: int) -> bool:
    """Can vLLM share the model out to n GPUs? Heads are split; keys and values also doubled, where GPUs are more."""
    keys = arch.n_kv_heads % n == 0 or n % arch.n_kv_heads == 0
    return keys and arch.n_heads % n == 0 and arch.intermediate_size % n == 0


# ---- training --------------------------------------------------------------------------------------------------------


@cache
def place_training(
    arch: Architecture, training: Training, precision: Precision, cluster: Cluster, longest: int = MAX_CONTEXT
) -> TrainingPlacement:
    """How to train the model on this cluster, and whether it fits. `longest`: tokens of the longest element."""
    if cluster.device == "cpu":
        return place_on_cpu(arch, training, precision, cluster)
    return choose(cluster.gpus, lambda gpus: train_on(arch, training, precision, gpus, longest), lambda p: p.n_workers)


def place_on_cpu(arch: Architecture, training: Training, precision: Precision, cluster: Cluster) -> TrainingPlacement:
    """One worker with all cores: on a CPU a second process only competes for them."""
    [node], tokens = cluster.nodes, MICRO_BATCH_TOKENS["cpu"]
    way = Way(n=1, recompute=False, tokens=tokens, stage=stages(1, precision)[0])
    needed = peak_bytes(arch, training, precision, way) / GIB
    fits = needed <= USABLE * node.device_gib
    return TrainingPlacement(
        device="cpu",
        threads=node.n_cpus,
        n_workers=1,
        zero_stage=way.stage,
        micro_batch_tokens=tokens,
        recompute=False,
        memory_gib=needed,
        fits=fits,
        reason="one worker, all cores" if fits else f"needs {needed:.0f} GiB of {node.device_gib:.0f}",
    )


class Way(NamedTuple):
    """One way to train: on n GPUs, with so many tokens in a micro-batch of each, in a ZeRO stage."""

    n: int
    recompute: bool
    tokens: int
    stage: int


def train_on(
    arch: Architecture, training: Training, precision: Precision, gpus: Gpus, longest: int
) -> TrainingPlacement:
    """On GPUs of one kind: the first of the ways that holds it."""
    ways, room = list(list_ways(training, precision, longest)), USABLE * gpus.gib * GIB
    needs = {way: peak_bytes(arch, training, precision, way) for way in ways}
    way = next((way for way in ways if needs[way] <= room), min(ways, key=lambda way: needs[way]))
    faults = list(why_not(way, training, gpus, needs[way] <= room, needs[way] / GIB))
    return TrainingPlacement(
        device="gpu",
        threads=1,
        n_workers=way.n,
        zero_stage=way.stage,
        micro_batch_tokens=way.tokens,
        recompute=way.recompute,
        memory_gib=needs[way] / GIB,
        fits=not faults,
        reason="; ".join([describe(way), *faults]),
    )


def list_ways(training: Training, precision: Precision, longest: int) -> Iterator[Way]:
    """Ways to train, the best first: few GPUs, then no recomputing, then few micro-batches, then the lowest ZeRO stage.

    Half of the longest step holds nearly all steps: a mean element is less than half as long as the longest. Below
    that, a second micro-batch costs a whole pass more, recomputing a forward pass only.
    """
    for n in N_GPUS:
        step = min(MICRO_BATCH_TOKENS["gpu"], ceil(training.batch_size / n) * longest)
        parts = [max(longest, ceil(step / k)) for k in (1, 2, 4, 8)]
        for recompute, tokens in dict.fromkeys([*product([False], parts[:2]), *product([True], parts)]):
            yield from (Way(n, recompute, tokens, stage) for stage in stages(n, precision))


def stages(n: int, precision: Precision) -> Sequence[int]:
    """ZeRO stages to choose from: those above 1 share out over devices.

    Without ZeRO, DeepSpeed trains in bfloat16 by another optimizer, which begins with a step on gradients of zero:
    large and small models would not be comparable.
    """
    lowest = 1 if precision == "bfloat16" else 0
    return range(lowest, 4 if n > 1 else lowest + 1)


def peak_bytes(arch: Architecture, training: Training, precision: Precision, way: Way) -> float:
    """Bytes per device: what is always there, and the most of what comes and goes within a step."""
    always = train_bytes(arch, training, precision, way.stage, way.n, 0, way.recompute)
    passes = activation_bytes(arch, BYTES[precision], way.tokens, way.recompute)
    update = gradient_copy_bytes(arch, training, precision, way.stage, way.n)
    return always + buffer_bytes(precision, way.stage) + max(passes, update)


def describe(way: Way) -> str:
    recompute = ", activations recomputed" if way.recompute else ""
    return f"{way.n} GPU(s), ZeRO {way.stage}, {way.tokens:,} tokens at once{recompute}"


def why_not(way: Way, training: Training, gpus: Gpus, fits: bool, needed_gib: float) -> Iterator[str]:
    """Why a model cannot be trained in this way, and what would make it possible."""
    if not fits:
        yield f"needs {needed_gib:.0f} GiB each, of which {USABLE * gpus.gib:.0f} may be used"
    if way.n > training.batch_size:  # the others would compute and throw it away
        yield f"a step has {training.batch_size} elements for them: use a batch_size of {way.n} or more"
    if way.n > gpus.total:
        yield f"the cluster has {gpus.total}"
