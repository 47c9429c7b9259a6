"""What is trained at which step, at which learning rate, in which micro-batches: pure functions of the step."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.inference.chat import Encoded
from engine.study import Training

N_COMPARED = 16  # steps whose loss is compared with the untrained model's


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One optimizer step: its loss (nats per learned token), learning rate, tokens and seconds."""

    step: int
    loss: float
    learning_rate: float
    tokens: int
    seconds: float


@dataclass(kw_only=True, slots=True)
class History:
    """How training went so far: the untrained model's loss (see `compared_steps`), and the steps that are done."""

    untrained_loss: float
    steps: list[Step] = field(default_factory=list)


def n_steps(n_elements: int, training: Training) -> int:
    """Optimizer steps of the whole trial; the last batch of an epoch may be smaller."""
    return training.epochs * math.ceil(n_elements / training.batch_size)


def batch_at(step: int, n_elements: int, batch_size: int, seed: int) -> list[int]:
    """The elements of a step: each epoch is a shuffle of its own, from the seed and the epoch alone."""
    epoch, place = divmod(step, math.ceil(n_elements / batch_size))
    order = list(range(n_elements))
    random.Random(f"{seed}/{epoch}").shuffle(order)
    return order[place * batch_size : (place + 1) * batch_size]


def learning_rate_at(step: int, total: int, training: Training) -> float:
    """Linear warm-up, then constant or a half cosine down to zero after the last step."""
    warm = math.ceil(training.warmup * total)
    if step < warm:
        return training.learning_rate * (step + 1) / warm
    if training.schedule == "constant":
        return training.learning_rate
    return training.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(total - warm, 1)))


def pack(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Indices grouped in order into rows of at most `most` tokens; a longer element is a row of its own."""
    rows: list[list[int]] = []
    room = 0
    for i, length in enumerate(lengths):
        if not rows or length > room:
            rows.append([])
            room = most
        rows[-1].append(i)
        room -= length
    return rows


def micro_batches(batch: Sequence[Encoded], n_ranks: int, most: int) -> list[list[list[Encoded]]]:
    """A step's elements as rows per rank: `[rank][micro-batch][element]`, equally many micro-batches for all.

    Every rank takes part in every collective, so one that has nothing left gets an empty micro-batch.
    """
    shares = [batch[rank::n_ranks] for rank in range(n_ranks)]
    rows = [[[share[i] for i in row] for row in pack([len(e.ids) for e in share], most)] for share in shares]
    longest = max(len(r) for r in rows)
    return [r + [[]] * (longest - len(r)) for r in rows]


def compared_steps(total: int, epochs: int) -> list[int]:
    """Steps of the last epoch, at most N_COMPARED and evenly spread, that the untrained model is asked about too.

    The same elements in the same batches make the two losses comparable. All steps of a small epoch; not more, since
    this is a third of their training's work.
    """
    in_epoch = total // epochs
    n = min(in_epoch, N_COMPARED)
    return [total - in_epoch + i * in_epoch // n for i in range(n)]
