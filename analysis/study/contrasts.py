"""Differences between arms, paired by news item: the FT-ICL gap, what training did, which protocol taught more.

An item's questions are not independent, items are nearly so: a difference is the mean over items of what each item
gives, its interval Student's t over items, its p-value that of flipping the items' signs (Fisher's randomisation test,
exact for few items). The ranking's tests are corrected for their number after Holm (1979); the others are not.
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

from analysis.study.by_item import CELL, largest_budget

Array = NDArray[np.float64]

LEVEL = 0.90
ALPHA = 0.05  # of a test, after Holm
FLIPS = 9999
EVERYWHERE = "all domains"
SCHEMA: dict[str, Any] = {"n_items": pl.Int64} | dict.fromkeys(("mean", "low", "high", "p_value"), pl.Float64)


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """A mean over items with its 90 % interval and p-value; one item has neither, items all alike no interval."""

    n_items: int
    mean: float
    low: float | None
    high: float | None
    p_value: float | None


def difference(values: Array) -> Difference:
    """Of one value [n] an item: is their mean 0?"""
    p = flipped(values) if len(values) > 1 else None
    low, high = ttest_1samp(values, 0.0).confidence_interval(LEVEL) if np.ptp(values) else (None, None)
    return Difference(n_items=len(values), mean=float(values.mean()), low=low, high=high, p_value=p)


def flipped(values: Array) -> float:
    """p-value of the mean under random signs."""
    found = permutation_test(
        (values,), np.mean, permutation_type="samples", vectorized=True, n_resamples=FLIPS, rng=np.random.default_rng(0)
    )
    return float(found.pvalue)


def differences(items: pl.DataFrame, value: pl.Expr, by: Sequence[str]) -> pl.DataFrame:
    """A row a group of `by`, small trainees first: the columns of `Difference`, of an item's mean `value` in it."""
    means = items.group_by(*by, "item").agg(pl.col("params").first(), value=value.mean()).drop_nulls("value")
    rows = [
        dict(zip(by, key, strict=True)) | asdict(difference(part["value"].to_numpy()))
        for key, part in means.sort("params", *by, "item").group_by(*by, maintain_order=True)
    ]
    return pl.DataFrame(rows, schema=dict.fromkeys(by, pl.String) | SCHEMA)


# ---- what a study asks -----------------------------------------------------------------------------------------------


def gaps(items: pl.DataFrame) -> pl.DataFrame:
    """By trainee, domain (and all of them) and protocol: ICL before training − closed-book after it.

    At the largest budget; after naive training it is the FT-ICL gap.
    """
    value = pl.col("icl_before") - pl.col("closed_book_after")
    plain = largest_budget(items.filter(context_mode="none"))
    both = pl.concat([plain, plain.with_columns(domain=pl.lit(EVERYWHERE))]) if several(plain, "domain") else plain
    return differences(both, value, ["trainee", "domain", "protocol"])


def several(items: pl.DataFrame, column: str) -> bool:
    """Does the column hold more than one value?"""
    return items[column].n_unique() > 1


def learned(items: pl.DataFrame) -> pl.DataFrame:
    """By trainee and protocol: closed-book accuracy after training − before, at the largest budget."""
    value = pl.col("closed_book_after") - pl.col("closed_book_before")
    return differences(largest_budget(items.filter(context_mode="none")), value, ["trainee", "protocol"])


def overexposure(items: pl.DataFrame) -> pl.DataFrame:
    """By trainee and protocol: ICL after training − before, at the largest budget."""
    value = pl.col("icl_after") - pl.col("icl_before")
    return differences(largest_budget(items.filter(context_mode="none")), value, ["trainee", "protocol"])


def shadowing(items: pl.DataFrame) -> pl.DataFrame:
    """By trainee, protocol and context mode: closed-book accuracy with the news in front of the data − without it.

    Within a cell of like trials; empty if the study has no such arms.
    """
    plain = items.filter(context_mode="none").select(*CELL, "protocol", "item", plain="closed_book_after")
    shadowed = items.filter(pl.col("context_mode") != "none")
    pairs = shadowed.join(plain, on=[*CELL, "protocol", "item"])
    return differences(pairs, pl.col("closed_book_after") - pl.col("plain"), ["trainee", "protocol", "context_mode"])


# ---- protocols against each other ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranking:
    """Protocols by closed-book accuracy over the cells that all of them have, the best first.

    `left_out`: protocols that share no cell with these.

    `accuracies`: protocol, and the columns of `Difference` (mean: the accuracy). `pairs`: better, worse, and those of
    the difference, with `p_holm`.
    """

    n_cells: int
    left_out: tuple[str, ...]
    accuracies: pl.DataFrame
    pairs: pl.DataFrame

    @property
    def sentence(self) -> str:
        """Who ranks first, and over whom that is sure."""
        first = self.accuracies["protocol"][0]
        ahead = self.pairs.filter(better=first)
        sure = ahead.filter(pl.col("p_holm") < ALPHA)["worse"].to_list()
        unsure = [name for name in ahead["worse"] if name not in sure]
        parts = [f"better than {listed(sure)}"] * bool(sure) + [f"not told apart from {listed(unsure)}"] * bool(unsure)
        return f"{first} ranks first: {'; '.join(parts)} (paired by news item, p < {ALPHA} after Holm)."


def listed(names: Sequence[str]) -> str:
    """`a, b and c`"""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def rank(items: pl.DataFrame) -> Ranking | None:
    """As many protocols as share any cell, against each other; None if no two do."""
    plain = items.filter(context_mode="none")
    wide = plain.pivot("protocol", index=[*CELL, "item"], values="closed_book_after")
    every = [name for name in wide.columns if name not in (*CELL, "item")]
    protocols = next((group for group in groups_of(every) if wide.drop_nulls(group).height), None)
    if protocols is None:
        return None
    shared = wide.drop_nulls(protocols)
    by_item = shared.group_by("item").agg(pl.col(protocols).mean()).sort("item")
    means = [{"protocol": p, **asdict(difference(by_item[p].to_numpy()))} for p in protocols]
    ranked = pl.DataFrame(means, schema={"protocol": pl.String} | SCHEMA)
    ranked = ranked.sort("mean", "protocol", descending=[True, False])
    return Ranking(
        n_cells=shared.select(CELL).n_unique(),
        left_out=tuple(p for p in every if p not in protocols),
        accuracies=ranked,
        pairs=pairs(by_item, ranked["protocol"].to_list()),
    )


def groups_of(names: Sequence[str]) -> Iterator[list[str]]:
    """All groups of two names or more, the largest first."""
    return (list(group) for size in range(len(names), 1, -1) for group in combinations(names, size))


def pairs(by_item: pl.DataFrame, ranked: Sequence[str]) -> pl.DataFrame:
    """Each protocol against each that ranks below it."""
    rows = [
        {"better": a, "worse": b, **asdict(difference((by_item[a] - by_item[b]).to_numpy()))}
        for a, b in combinations(ranked, 2)
    ]
    known = [i for i, row in enumerate(rows) if row["p_value"] is not None]
    corrected = multipletests([rows[i]["p_value"] for i in known], method="holm")[1] if known else []
    holm = dict(zip(known, map(float, corrected), strict=True))
    named = {"better": pl.String, "worse": pl.String}
    return pl.DataFrame(
        [row | {"p_holm": holm.get(i)} for i, row in enumerate(rows)], schema=named | SCHEMA | {"p_holm": pl.Float64}
    )
