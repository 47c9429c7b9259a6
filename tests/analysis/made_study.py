"""Results tables of a study that never ran, with known truths, for the tests of `analysis`."""

from typing import Any

import numpy as np
import polars as pl
from scipy.special import expit

SIZES = {"small": 5e8, "middle": 1.5e9, "large": 7e9}
GAIN = {"naive": 0.0, "paraphrase": 0.8, "self_qa": 1.6}  # logits
CHANCE = 0.25


def tables(
    *, over: str = "train_flops", domains: int = 2, items: int = 10, seeds: int = 2, seed: int = 0
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(trials, questions): accuracy rises with `over` on one curve for all sizes; prefix arms learn nothing."""
    rng = np.random.default_rng(seed)
    ease = rng.normal(0, 0.7, (domains, items))  # answers to the questions of one item are correlated
    trials: list[dict[str, Any]] = []
    questions: list[dict[str, Any]] = []
    for trial in grid(domains, seeds):
        of_items = ease[int(trial["domain"][-1])]
        for moment in ("before", "after"):
            for condition in ("closed_book", "icl"):
                rows = list(answers(trial, moment, condition, of_items, over, rng))
                questions += rows
                accuracy = float(np.mean([row["correct"] for row in rows]))
                result = {"moment": moment, "condition": condition, "accuracy": accuracy, "accuracy_general": None}
                trials.append(trial | result | {"n_items": items, "n_questions": 5 * items})
    about = ("trial", "domain", "protocol", "context_mode")
    columns = {name: [row["about"][name] for row in questions] for name in about}
    table = pl.DataFrame([{k: v for k, v in row.items() if k != "about"} for row in questions])
    return pl.DataFrame(trials, schema_overrides={"accuracy_general": pl.Float64}), table.with_columns(
        **{name: pl.Series(values) for name, values in columns.items()}
    )


def grid(domains: int, seeds: int) -> list[dict[str, Any]]:
    """Sizes × domains × protocols × budgets × seeds, and a prefix arm at one budget."""
    cells = [
        (size, f"domain-{d}", protocol, "none", budget, seed)
        for size in SIZES
        for d in range(domains)
        for protocol in GAIN
        for budget in (4, 16, 64, 256)
        for seed in range(seeds)
    ]
    cells += [(size, f"domain-{d}", "self_qa", "prefix", 64, 0) for size in SIZES for d in range(domains)]
    return [trial(*cell) for cell in cells]


def trial(size: str, domain: str, protocol: str, mode: str, budget: int, seed: int) -> dict[str, Any]:
    tokens = 4.0 * budget * 10 * 60
    return {
        "study": "made",
        "trial": f"{domain}-{protocol}-{mode}-{size}-n{budget}-s{seed}",
        "domain": domain,
        "protocol": protocol,
        "context_mode": mode,
        "trainee": size,
        "generator": size,
        "method": "lora",
        "budget": budget,
        "seed": seed,
        "learning_rate": 1e-3,
        "epochs": 4,
        "params": int(SIZES[size]),
        "train_tokens": tokens,
        "train_flops": 4 * SIZES[size] * tokens,
        "selfplay_flops": 0.0 if protocol == "naive" else 3 * SIZES[size] * tokens,
        "gpu_seconds": 0.0,
        "train_seconds": tokens / 1000,
        "estimated_seconds": tokens / 900,
    }


def answers(trial: dict[str, Any], moment: str, condition: str, ease: Any, over: str, rng: Any) -> Any:
    """Five questions per item."""
    unit = {"train_flops": 1e14, "train_tokens": 3e4}[over]
    skill = 0.7 * np.log(trial[over] / unit) + GAIN[trial["protocol"]]
    if moment == "before" or trial["context_mode"] == "prefix":
        skill = -3.0
    level = 2.5 if condition == "icl" else skill
    for i, item_ease in enumerate(ease):
        p = CHANCE + (1 - CHANCE) * expit(level + item_ease)
        for q in range(5):
            yield {
                "about": trial,
                "item": f"{trial['domain']}-{i:02}",
                "question": f"q{q}",
                "form": "choice",
                "condition": condition,
                "moment": moment,
                "correct": bool(rng.random() < p),
                "option_logprobs": [0.0] * 4,
            }
