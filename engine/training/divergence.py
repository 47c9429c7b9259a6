"""When has a training diverged? Then the trial fails with a reason: a broken model must not look like one that learned.

A flat model, which gives every token the same probability, is found when it is asked (`engine.evaluation.marks`).
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist

from engine.training.checkpoints import masters
from engine.training.steps import History, Step, compared_steps

# Of a trained weight. Weights of working models are far below it (at most 10 in SmolLM2, some hundred in the biases of
# Qwen2.5's attention), and AdamW moves a weight by about the learning rate per step.
LARGEST_WEIGHT = 1e4
MARGIN = 0.5  # nats per learned token; see `check_loss`


class Diverged(Exception):
    """The model got worse instead of learning; the message says what shows it."""


def check_step(step: Step, skipped: int) -> None:
    """Raises Diverged if the loss is no number, or if DeepSpeed left a step out since a gradient was none."""
    if not math.isfinite(step.loss):
        raise Diverged(f"loss became {step.loss} at step {step.step}")
    if skipped:
        raise Diverged(f"a gradient was not finite at step {step.step}")


def check_weights(engine: Any) -> None:
    """Raises Diverged, on all ranks alike, if a trained weight is not finite or above LARGEST_WEIGHT in size."""
    largest = torch.stack([largest_size(p) for p in masters(engine) if p.numel()] or [torch.zeros(())])
    top = largest.max().nan_to_num(nan=math.inf).to(engine.device)
    dist.all_reduce(top, op=dist.ReduceOp.MAX)
    if not float(top) <= LARGEST_WEIGHT:
        raise Diverged(f"a trained weight became {float(top):g}, more than {LARGEST_WEIGHT:g}")


def largest_size(tensor: Any) -> Any:
    """The largest absolute value; NaN if there is one."""
    low, high = tensor.detach().float().aminmax()
    return torch.maximum(low.abs(), high)


def check_loss(history: History, epochs: int) -> None:
    """Raises Diverged if the last epoch's loss is more than MARGIN above the untrained model's on the same elements.

    Training on a text lowers its loss, whatever the settings, or leaves it where it was. The margin is more than what
    may be above without harm (rounding in bfloat16, some 0.01 nats; one epoch that begins with a rise), and less than
    what a broken model has: half a nat makes each token 1.6 times less likely than before training.
    """
    trained = mean_loss([history.steps[i] for i in compared_steps(len(history.steps), epochs)])
    if trained > history.untrained_loss + MARGIN:
        raise Diverged(
            f"the loss is {trained:.3g} nats per token after training and was {history.untrained_loss:.3g} before"
        )


def mean_loss(steps: Sequence[Step]) -> float:
    """The mean loss of some steps."""
    return sum(step.loss for step in steps) / len(steps)
