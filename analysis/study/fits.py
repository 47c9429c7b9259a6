"""The laws of a study's results: closed-book accuracy over training compute, an arm at a time.

They are fitted as `jobs/fit.py` fits a table, and can be fitted anew by it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from analysis.errors import FitError
from analysis.fits import group, table
from analysis.fits.group import Forms
from analysis.fits.request import Request
from analysis.study import collapse
from analysis.study.contrasts import EVERYWHERE

ARM = ("protocol", "trainee", "generator", "method")  # what has a law of its own
REQUEST = Request(
    laws=("auto",),
    x={"x": "train_flops"},
    y="closed_book_after",
    weights="n_questions",
    objective="binomial",
    group=ARM,
    cluster="item",
    bootstrap=200,
)
HAS_LAW = "has_law"

Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Fitted:
    """An arm's fit: its record, the forms behind it, and its rows; or why there is none."""

    arm: Mapping[str, str]
    rows: pl.DataFrame
    forms: Forms | None = None
    record: dict[str, Any] | None = None
    refused: str = ""

    @property
    def name(self) -> str:
        """The trainee, with what is unusual about the arm."""
        by = "" if self.arm["generator"] == self.arm["trainee"] else f" by {self.arm['generator']}"
        return self.arm["trainee"] + by + ("" if self.arm["method"] == "lora" else f", {self.arm['method']}")


def fit_all(items: pl.DataFrame, progress: Progress) -> list[Fitted]:
    """The best predicting law of each arm, or why there is none; small trainees first. `items`: `by_item.table`."""
    groups = items.filter(context_mode="none").sort("protocol", "params", *ARM).group_by(ARM, maintain_order=True)
    arms = [(dict(zip(ARM, key, strict=True)), rows) for key, rows in groups]
    found = []
    for done, (arm, rows) in enumerate(arms):
        progress(f"laws: {done} done, {len(arms) - done} left")
        found.append(fit_one(arm, rows.sort("trial", "item")))
    return found


def fit_one(arm: Mapping[str, str], rows: pl.DataFrame) -> Fitted:
    """One arm. With one budget alone compute varies only with the length of the domains' texts: that is no law."""
    if rows["budget"].n_unique() < 2:
        return Fitted(arm=arm, rows=rows, refused="all of its trials have one budget")
    try:
        table.parts(rows, REQUEST)
        forms = group.weigh_forms(rows, REQUEST)
        record = group.chosen(arm, forms, rows, rows.clear(), REQUEST)
    except FitError as error:
        return Fitted(arm=arm, rows=rows, refused=str(error))
    return Fitted(arm=arm, rows=rows, forms=forms, record=record)


def with_laws(items: pl.DataFrame, fits: list[Fitted]) -> pl.DataFrame:
    """The items with the column HAS_LAW: which rows a law was fitted to."""
    used = [f.rows.select("trial", "item") for f in fits if f.record]
    if not used:
        return items.with_columns(pl.lit(False).alias(HAS_LAW))
    flagged = pl.concat(used).with_columns(pl.lit(True).alias(HAS_LAW))
    joined = items.join(flagged, on=["trial", "item"], how="left", maintain_order="left")
    return joined.with_columns(pl.col(HAS_LAW).fill_null(False))


def command(table: str, out: str) -> str:
    """The command that makes the fits anew from `with_laws` as a CSV file."""
    r = REQUEST
    x = " ".join(f"--x {name}={column}" for name, column in r.x.items())
    return (
        f"python jobs/fit.py {table} --law {','.join(r.laws)} {x} --y {r.y} --weights {r.weights} "
        f"--objective {r.objective} --group {','.join(r.group)} --cluster {r.cluster} --bootstrap {r.bootstrap} "
        f"--seed {r.seed} --where {HAS_LAW} --out {out}"
    )


def judged(items: pl.DataFrame) -> collapse.Collapse | str:
    """Do the sizes fall onto one curve? Or why that cannot be told."""
    try:
        return collapse.judge(collapse.points(items))
    except FitError as error:
        return f"Whether the sizes fall onto one curve cannot be told: {error}."


def headline_gaps(gaps: pl.DataFrame) -> pl.DataFrame:
    """Of `contrasts.gaps`, the rows after naive training over all domains that a trainee was trained on."""
    naive = gaps.filter(protocol="naive")
    return naive.filter((pl.col("domain") == EVERYWHERE) | (pl.col("domain").n_unique().over("trainee") == 1))
