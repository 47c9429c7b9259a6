"""The laws of a study's results: closed-book accuracy over training compute, one law per arm.

They are fitted as `jobs/fit.py` fits a table, and that job can repeat them.
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

ARM = ("protocol", "trainee", "generator", "method")  # each has a law of its own
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
class ArmFit:
    """The fit of an arm: its record, its forms, and its rows; or the reason why there is none."""

    arm: Mapping[str, str]
    rows: pl.DataFrame
    forms: Forms | None = None
    record: dict[str, Any] | None = None
    refused: str = ""

    @property
    def name(self) -> str:
        """The trainee, with the generator if it is another model, and the method if it is not lora."""
        by = "" if self.arm["generator"] == self.arm["trainee"] else f" by {self.arm['generator']}"
        return self.arm["trainee"] + by + ("" if self.arm["method"] == "lora" else f", {self.arm['method']}")


def fit_all(items: pl.DataFrame, progress: Progress) -> list[ArmFit]:
    """The law of each arm that predicts best, or why there is none; small trainees first.

    `items`: `by_item.make_table`.
    """
    groups = items.filter(context_mode="none").sort("protocol", "params", *ARM).group_by(ARM, maintain_order=True)
    arms = [(dict(zip(ARM, key, strict=True)), rows) for key, rows in groups]
    fits = []
    for done, (arm, rows) in enumerate(arms):
        progress(f"laws: {done} done, {len(arms) - done} left")
        fits.append(fit_arm(arm, rows.sort("trial", "item")))
    return fits


def fit_arm(arm: Mapping[str, str], rows: pl.DataFrame) -> ArmFit:
    """The law of one arm. At one budget compute varies only with the length of the domains' texts: no law is fitted."""
    if rows["budget"].n_unique() < 2:
        return ArmFit(arm=arm, rows=rows, refused="all of its trials have one budget")
    try:
        table.split_groups(rows, REQUEST)
        forms = group.weigh_forms(rows, REQUEST)
        record = group.record_best(arm, forms, rows, rows.clear(), REQUEST)
    except FitError as error:
        return ArmFit(arm=arm, rows=rows, refused=str(error))
    return ArmFit(arm=arm, rows=rows, forms=forms, record=record)


def mark_fitted(items: pl.DataFrame, fits: list[ArmFit]) -> pl.DataFrame:
    """The items with the column HAS_LAW: the rows that a law was fitted to."""
    keys = [f.rows.select("trial", "item") for f in fits if f.record]
    if not keys:
        return items.with_columns(pl.lit(False).alias(HAS_LAW))
    marks = pl.concat(keys).with_columns(pl.lit(True).alias(HAS_LAW))
    marked = items.join(marks, on=["trial", "item"], how="left", maintain_order="left")
    return marked.with_columns(pl.col(HAS_LAW).fill_null(False))


def write_command(table_file: str, out: str) -> str:
    """The command that repeats the fits from `mark_fitted` as a CSV file."""
    r = REQUEST
    x = " ".join(f"--x {name}={column}" for name, column in r.x.items())
    return (
        f"python jobs/fit.py {table_file} --law {','.join(r.laws)} {x} --y {r.y} --weights {r.weights} "
        f"--objective {r.objective} --group {','.join(r.group)} --cluster {r.cluster} --bootstrap {r.bootstrap} "
        f"--seed {r.seed} --where {HAS_LAW} --out {out}"
    )


def judge_collapse(items: pl.DataFrame) -> collapse.Collapse | str:
    """Whether the sizes follow one curve, or why these results do not show it."""
    try:
        return collapse.judge(collapse.make_points(items))
    except FitError as error:
        return f"These results do not show whether the sizes follow one curve: {error}."


def select_headlines(gaps: pl.DataFrame) -> pl.DataFrame:
    """Of `contrasts.measure_gaps`, the rows after naive training over all domains that a trainee was trained on."""
    naive = gaps.filter(protocol="naive")
    return naive.filter((pl.col("domain") == EVERYWHERE) | (pl.col("domain").n_unique().over("trainee") == 1))
