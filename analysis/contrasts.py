"""Differences between arms, paired by news item: the FT-ICL gap, what training did, which protocol taught more.

An item's questions are not independent, items are nearly so: a difference is the mean over items of what each item
gives, its interval Student's t over items, its p-value that of flipping the items' signs (Fisher's randomisation test,
exact for few items). Several tests at once are corrected after Holm (1979).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import permutation_test, ttest_1samp
from statsmodels.stats.multitest import multipletests

from analysis.by_item import CELL, largest_budget

Array = NDArray[np.float64]

LEVEL = 0.90
ALPHA = 0.05  # of a test, after Holm
FLIPS = 9999
EVERYWHERE = "all domains"


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """A mean over items with its 90 % interval and p-value; one item has neither."""

    n_items: int
    mean: float
    low: float | None
    high: float | None
    p_value: float | None


def difference(values: Array) -> Difference:
    """Of one value [n] an item: is their mean 0?"""
    mean = float(values.mean())
    if len(values) < 2:
        return Difference(n_items=len(values), mean=mean, low=None, high=None, p_value=None)
    if not np.ptp(values):
        low = high = mean
    else:
        low, high = ttest_1samp(values, 0.0).confidence_interval(LEVEL)
    return Difference(n_items=len(values), mean=mean, low=float(low), high=float(high), p_value=flipped(values))


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
    return pl.DataFrame(rows, infer_schema_length=None)


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

    `accuracies`: protocol, and the columns of `Difference` (mean: the accuracy). `pairs`: better, worse, and those of
    the difference, with `p_holm`.
    """

    n_cells: int
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
    """The protocols against each other; None if fewer than two share any cell."""
    plain = items.filter(context_mode="none")
    wide = plain.pivot("protocol", index=[*CELL, "item"], values="closed_book_after").drop_nulls()
    protocols = [name for name in wide.columns if name not in (*CELL, "item")]
    if len(protocols) < 2 or not wide.height:
        return None
    by_item = wide.group_by("item").agg(pl.col(protocols).mean()).sort("item")
    means = [{"protocol": p, **asdict(difference(by_item[p].to_numpy()))} for p in protocols]
    ranked = pl.DataFrame(means, infer_schema_length=None).sort("mean", "protocol", descending=[True, False])
    against = pairs(by_item, ranked["protocol"].to_list())
    return Ranking(n_cells=wide.select(CELL).n_unique(), accuracies=ranked, pairs=against)


def pairs(by_item: pl.DataFrame, ranked: Sequence[str]) -> pl.DataFrame:
    """Each protocol against each that ranks below it."""
    rows = [
        {"better": a, "worse": b, **asdict(difference((by_item[a] - by_item[b]).to_numpy()))}
        for a, b in combinations(ranked, 2)
    ]
    known = [i for i, row in enumerate(rows) if row["p_value"] is not None]
    corrected = multipletests([rows[i]["p_value"] for i in known], method="holm")[1] if known else []
    holm = dict(zip(known, map(float, corrected), strict=True))
    return pl.DataFrame([row | {"p_holm": holm.get(i)} for i, row in enumerate(rows)], infer_schema_length=None)
