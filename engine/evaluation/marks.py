"""How an answer is marked, and the one schema of a row of the question table.

Log-likelihoods are in nats. A row has what every question has, and what its form gives; the rest is null.
"""

import math
import re
from collections.abc import Sequence
from typing import Any

import polars as pl

Row = dict[str, Any]
NOT_FINITE = "some of its scores are not finite"
TIE = 1e-6  # relative: scores that are closer than this, about the rounding of float32, are equal

# All columns, so that tables of all trials fit together.
SCHEMA: dict[str, Any] = {
    "item": pl.String,
    "question": pl.String,
    "kind": pl.String,
    "form": pl.String,
    "condition": pl.String,
    "correct": pl.Boolean,
    "p_correct": pl.Float64,
    "nll_correct": pl.Float64,
    "answer": pl.Int64,
    "option_logprobs": pl.List(pl.Float64),
    "option_tokens": pl.List(pl.Int64),
    "letter_probabilities": pl.List(pl.Float64),
    "reply": pl.String,
}


def table(rows: Sequence[Row]) -> pl.DataFrame:
    """Rows as a table; what a form does not give is null."""
    return pl.DataFrame([dict.fromkeys(SCHEMA) | row for row in rows], schema=SCHEMA)


def mark_options(options: Sequence[str], right: int, logprobs: Sequence[Sequence[float]]) -> Row:
    """Marks by the likelihood of each option's text; `logprobs`: of the tokens of each option.

    The chosen option has the highest log-likelihood per character (a tie is no choice, see `is_highest`); `p_correct`
    is the right option's share of the likelihoods of whole options; `nll_correct` is its nats per token.
    """
    whole = [math.fsum(tokens) for tokens in logprobs]
    per_character = [ll / len(text) for ll, text in zip(whole, options, strict=True)]
    return {
        "correct": is_highest(per_character, right),
        "p_correct": share(whole, right),
        "nll_correct": -whole[right] / len(logprobs[right]),
        "answer": right,
        "option_logprobs": whole,
        "option_tokens": [len(tokens) for tokens in logprobs],
    }


def mark_letters(orders: Sequence[Sequence[int]], right: int, logprobs: Sequence[Sequence[float]]) -> Row:
    """Marks by the letter; `orders[k]` names the option at each letter of rotation k, `logprobs[k]` is of its letters.

    The chosen option has the highest probability in the mean over all rotations, so that a preference for a letter
    cancels out. A tie is no choice, see `is_highest`.
    """
    by_option = mean_by_option(orders, logprobs)
    return {
        "correct": is_highest(by_option, right),
        "p_correct": by_option[right],
        "answer": right,
        "letter_probabilities": by_option,
    }


def is_highest(scores: Sequence[float], right: int) -> bool:
    """Is the right option's score above all others? Not if it is only equal to another: that is no knowledge.

    The order of the options would decide a tie, and credit for a share of it would make `correct` a fraction.
    """
    top = scores[right]
    others = [score for i, score in enumerate(scores) if i != right]
    return all(top > score and not math.isclose(top, score, rel_tol=TIE) for score in others)


def mark_reply(accepted: Sequence[str], reply: str) -> Row:
    """Marks a free answer."""
    return {"correct": is_accepted(reply, accepted), "reply": reply}


def is_accepted(reply: str, answers: Sequence[str]) -> bool:
    """Is the reply's first line an accepted answer, or a sentence that ends with one and has no other number?

    Case, articles and punctuation around words do not count.
    """
    line = simplify(next((line for line in reply.splitlines() if line.strip()), ""))
    return any(
        (line == answer and line != "")
        or (answer != "" and line.endswith(f" {answer}") and not re.search(r"\d", line.removesuffix(answer)))
        for answer in map(simplify, answers)
    )


def simplify(text: str) -> str:
    """The words of a text in lower case without articles, and without punctuation at their ends."""
    words = [word for word in (w.strip(".,;:!?\"'“”‘’()*`") for w in text.casefold().split()) if word]
    return " ".join([word for word in words if word not in ("a", "an", "the")] or words)


def mean_by_option(orders: Sequence[Sequence[int]], logprobs: Sequence[Sequence[float]]) -> list[float]:
    """Mean over the rotations of each option's share among the letters."""
    totals = [0.0] * len(orders[0])
    for order, letters in zip(orders, logprobs, strict=True):
        for place, option in enumerate(order):
            totals[option] += share(letters, place) / len(orders)
    return totals


def share(logs: Sequence[float], i: int) -> float:
    """exp(logs[i]) as a share of the sum of all exp(logs)."""
    top = max(logs)
    return math.exp(logs[i] - top) / math.fsum(math.exp(x - top) for x in logs)


# ---- does the model answer at all? -----------------------------------------------------------------------------------


def find_fault(rows: Sequence[Row]) -> str | None:
    """What shows that all these answers are of a broken model, or None: scores that are no numbers, or all alike."""
    if not are_finite(rows):
        return NOT_FINITE
    scored = [row for row in rows if row.get("option_logprobs")]
    per_token = [s / n for row in scored for s, n in zip(row["option_logprobs"], row["option_tokens"], strict=True)]
    if per_token and all(math.isclose(score, per_token[0], rel_tol=TIE) for score in per_token):
        return f"it gives all options of all questions the same score, {-per_token[0]:.4g} nats per token"
    return None


def are_finite(rows: Sequence[Row]) -> bool:
    """Are all scores numbers?"""
    scores = (row.get(name) or () for row in rows for name in ("option_logprobs", "letter_probabilities"))
    return all(math.isfinite(score) for of_row in scores for score in of_row)


def name_divergence(fault: str) -> str:
    """The reason why a trained model with such a fault has no scores."""
    return f"the trained model has diverged: {fault}; lower the learning rate"
