"""What a trial will take: tokens, operations and seconds, from its size and from what trials took before."""

import math
from collections.abc import Iterable, Mapping

from engine.cluster.machines import Device, Estimate, TrainingPlacement
from engine.inference.settings import MAX_CONTEXT
from engine.models.architecture import Architecture
from engine.models.arithmetic import selfplay_flops, train_flops
from engine.news.items import NewsItem
from engine.storage.ledger import Ledger
from engine.study import Training, Trial

NOMINAL_FLOPS: dict[Device, float] = {"cpu": 30e9, "gpu": 350e12}  # per core, per GPU: reached, not peak
START_S = 30.0  # processes of one fine-tune
CHARS_PER_TOKEN, CHAT_TOKENS, ELEMENT_TOKENS = 4.0, 30, 45
DECODING_SLOWDOWN = 3.0  # of writing token by token, against the operations per second of training
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


def speed_of(trainee: str, placement: TrainingPlacement, speeds: Speeds) -> tuple[float, str]:
    """Operations per second to expect in training, and what that rests on."""
    ran = (trainee, placement.device, placement.n_workers)
    if ran in speeds:
        return speeds[ran], "speed of trials done here"
    nominal = NOMINAL_FLOPS[placement.device] * (
        placement.n_workers if placement.device == "gpu" else placement.threads
    )
    return nominal, f"nominal {nominal:.2g} FLOP/s"


def estimate(
    arch: Architecture,
    generator: Architecture | None,
    training: Training,
    n_elements: int,
    news_chars: float,
    in_front: bool,
    speed: float,
    basis: str,
) -> Estimate:
    """Estimates a trial of `n_elements` replay elements about items of `news_chars` characters.

    `generator`: None if nothing is generated; `in_front`: the news is in front of each element; `speed`: training
    operations per second, resting on `basis`.
    """
    news_tokens = news_chars / CHARS_PER_TOKEN
    length = CHAT_TOKENS + (ELEMENT_TOKENS if generator else news_tokens) + (news_tokens if in_front else 0)
    tokens = training.epochs * n_elements * length
    train = train_flops(arch, training, tokens, length / 2)
    written = n_elements * (CHAT_TOKENS + news_tokens + ELEMENT_TOKENS) if generator else 0.0
    play = selfplay_flops(generator, written, 0.0, length) if generator else 0.0
    seconds = START_S + train / speed + DECODING_SLOWDOWN * play / speed
    return Estimate(train_tokens=tokens, train_flops=train, selfplay_flops=play, seconds=seconds, basis=basis)


def longest_element(trial: Trial, items: Iterable[NewsItem]) -> int:
    """Tokens of the longest replay element to expect about these items, under any protocol and context mode.

    So the arms of a study are trained in the same way.
    """
    news = max(len(item.text) for item in items) / CHARS_PER_TOKEN
    return min(MAX_CONTEXT, math.ceil(CHAT_TOKENS + trial.sampling.max_tokens + news))


def mean_chars(texts: Iterable[str]) -> float:
    """Mean length of texts in characters."""
    lengths = [len(text) for text in texts]
    return sum(lengths) / len(lengths)
