"""Differences between arms, paired by news item: the FT-ICL gap, the effect of training, the ranking of protocols.

The questions of an item are not independent, items nearly are. So a difference is the mean over items of each item's
difference; its interval is Student's t over items; its p-value comes from flipping the signs of the items (Fisher's
randomisation test, exact for few items). The tests of the ranking are corrected for their number after Holm (1979); the
others are not.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import permutation_test, ttest_1samp
from statsmodels.stats.multitest import multipletests

from analysis.study.by_item import CELL, keep_largest_budget

Array = NDArray[np.float64]

LEVEL = 0.90
ALPHA = 0.05  # of a test, after Holm
FLIPS = 9999
EVERYWHERE = "all domains"
SCHEMA: dict[str, Any] = {"n_items": pl.Int64} | dict.fromkeys(("mean", "low", "high", "p_value"), pl.Float64)


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """A mean over items, its 90 % interval and p-value. One item has neither; equal items have no interval."""

    n_items: int
    mean: float
    low: float | None
    high: float | None
    p_value: float | None


def measure_difference(values: Array) -> Difference:
    """The mean of one value [n] per item, and whether it differs from 0."""
    p = sign_flip_p_value(values) if len(values) > 1 else None
    low, high = ttest_1samp(values, 0.0).confidence_interval(LEVEL) if np.ptp(values) else (None, None)
    return Difference(n_items=len(values), mean=float(values.mean()), low=low, high=high, p_value=p)


def sign_flip_p_value(values: Array) -> float:
    """How often the mean is as large if the signs of the values are random."""
    test = permutation_test(
        (values,), np.mean, permutation_type="samples", vectorized=True, n_resamples=FLIPS, rng=np.random.default_rng(0)
    )
    return float(test.pvalue)


def measure_differences(items: pl.DataFrame, value: pl.Expr, by: Sequence[str]) -> pl.DataFrame:
    """One row per group of `by`, small trainees first: the columns of `Difference`, of the mean `value` per item."""
    means = items.group_by(*by, "item").agg(pl.col("params").first(), value=value.mean()).drop_nulls("value")
    rows = [
        dict(zip(by, key, strict=True)) | asdict(measure_difference(part["value"].to_numpy()))
        for key, part in means.sort("params", *by, "item").group_by(*by, maintain_order=True)
    ]
    return pl.DataFrame(rows, schema=dict.fromkeys(by, pl.String) | SCHEMA)


# ---- the questions of a study ----------------------------------------------------------------------------------------


def measure_gaps(items: pl.DataFrame) -> pl.DataFrame:
    """By trainee, domain (and all domains) and protocol: ICL before training − closed-book after it.

    At the largest budget; after naive training it is the FT-ICL gap.
    """
    value = pl.col("icl_before") - pl.col("closed_book_after")
    plain = keep_largest_budget(items.filter(context_mode="none"))
    several = plain["domain"].n_unique() > 1
    rows = pl.concat([plain, plain.with_columns(domain=pl.lit(EVERYWHERE))]) if several else plain
    return measure_differences(rows, value, ["trainee", "domain", "protocol"])


def measure_learning(items: pl.DataFrame) -> pl.DataFrame:
    """By trainee and protocol: closed-book accuracy after training − before, at the largest budget."""
    value = pl.col("closed_book_after") - pl.col("closed_book_before")
    return measure_differences(keep_largest_budget(items.filter(context_mode="none")), value, ["trainee", "protocol"])


def measure_overexposure(items: pl.DataFrame) -> pl.DataFrame:
    """By trainee and protocol: ICL after training − before, at the largest budget."""
    value = pl.col("icl_after") - pl.col("icl_before")
    return measure_differences(keep_largest_budget(items.filter(context_mode="none")), value, ["trainee", "protocol"])


def measure_shadowing(items: pl.DataFrame) -> pl.DataFrame:
    """By trainee, protocol and context mode: closed-book accuracy with the news before the data − without it.

    Compared within a cell of like trials; empty if the study has no such arms.
    """
    plain = items.filter(context_mode="none").select(*CELL, "protocol", "item", plain="closed_book_after")
    prefixed = items.filter(pl.col("context_mode") != "none")
    pairs = prefixed.join(plain, on=[*CELL, "protocol", "item"])
    value = pl.col("closed_book_after") - pl.col("plain")
    return measure_differences(pairs, value, ["trainee", "protocol", "context_mode"])


# ---- protocols against each other ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranking:
    """Protocols by closed-book accuracy over the cells that all of them have, the best first.

    `left_out`: protocols that share no cell with these. `accuracies`: protocol, and the columns of `Difference` (mean:
    the accuracy). `pairs`: better, worse, the columns of their difference, and `p_holm`.
    """

    n_cells: int
    left_out: tuple[str, ...]
    accuracies: pl.DataFrame
    pairs: pl.DataFrame

    @property
    def sentence(self) -> str:
        """Which protocol ranks first, and from which others it differs significantly."""
        first = self.accuracies["protocol"][0]
        pairs = self.pairs.filter(better=first)
        worse = pairs.filter(pl.col("p_holm") < ALPHA)["worse"].to_list()
        equal = [name for name in pairs["worse"] if name not in worse]
        parts = [f"better than {join_words(worse)}"] if worse else []
        parts += [f"no significant difference from {join_words(equal)}"] if equal else []
        return f"{first} ranks first: {'; '.join(parts)} (paired by news item, p < {ALPHA} after Holm)."


def join_words(words: Sequence[str]) -> str:
    """`a, b and c`"""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def rank(items: pl.DataFrame) -> Ranking | None:
    """Ranks as many protocols as share any cell; None if no two do."""
    plain = items.filter(context_mode="none")
    wide = plain.pivot("protocol", index=[*CELL, "item"], values="closed_book_after")
    every = [name for name in wide.columns if name not in (*CELL, "item")]
    protocols = next((group for group in list_groups(every) if wide.drop_nulls(group).height), None)
    if protocols is None:
        return None
    shared = wide.drop_nulls(protocols)
    by_item = shared.group_by("item").agg(pl.col(protocols).mean()).sort("item")
    means = [{"protocol": p, **asdict(measure_difference(by_item[p].to_numpy()))} for p in protocols]
    ranked = pl.DataFrame(means, schema={"protocol": pl.String} | SCHEMA)
    ranked = ranked.sort("mean", "protocol", descending=[True, False])
    return Ranking(
        n_cells=shared.select(CELL).n_unique(),
        left_out=tuple(p for p in every if p not in protocols),
        accuracies=ranked,
        pairs=compare_pairs(by_item, ranked["protocol"].to_list()),
    )


def list_groups(names: Sequence[str]) -> Iterator[list[str]]:
    """All groups of two names or more, the largest first."""
    return (list(group) for size in range(len(names), 1, -1) for group in combinations(names, size))


def compare_pairs(by_item: pl.DataFrame, ranked: Sequence[str]) -> pl.DataFrame:
    """Each protocol against each one that ranks below it."""
    rows = [
        {"better": a, "worse": b, **asdict(measure_difference((by_item[a] - by_item[b]).to_numpy()))}
        for a, b in combinations(ranked, 2)
    ]
    known = [i for i, row in enumerate(rows) if row["p_value"] is not None]
    corrected = multipletests([rows[i]["p_value"] for i in known], method="holm")[1] if known else []
    holm = dict(zip(known, map(float, corrected), strict=True))
    names = {"better": pl.String, "worse": pl.String}
    return pl.DataFrame(
        [row | {"p_holm": holm.get(i)} for i, row in enumerate(rows)], schema=names | SCHEMA | {"p_holm": pl.Float64}
    )
