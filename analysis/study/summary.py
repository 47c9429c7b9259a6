"""The results table in short: what each protocol taught, with 95 % intervals, for a person to read.

Accuracies of the same protocol, context mode and trainee are pooled over domains and seeds. Intervals are Wilson's
(1927): they are valid for few questions, but take questions as independent; the fits cluster them by news item.
"""

import polars as pl
from rich.table import Table
from statsmodels.stats.proportion import proportion_confint

ARM = ["trainee", "protocol", "context_mode", "budget"]


def summarise(trials: pl.DataFrame) -> pl.DataFrame:
    """One row per arm, and one per trainee before any training.

    Columns: ARM, n (questions), and for closed_book and icl the share of right answers with `_low` and `_high`; `gap`
    is ICL accuracy before training minus closed-book accuracy after it, over the same domains.
    """
    counts = trials.with_columns(right=(pl.col("accuracy") * pl.col("n_questions")).round())
    after = pool_shares(counts.filter(moment="after"), ARM)
    once = counts.filter(moment="before").unique(["trainee", "domain", "condition"], keep="first", maintain_order=True)
    before = pool_shares(once, ["trainee"]).with_columns(
        protocol=pl.lit("before"), context_mode=pl.lit("none"), budget=pl.lit(0, pl.Int64)
    )
    return add_gap(pl.concat([before, after], how="diagonal"), counts).select(
        *ARM, "n", "closed_book", "closed_book_low", "closed_book_high", "icl", "icl_low", "icl_high", "gap"
    )


def pool_shares(rows: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    """Right answers over questions by group, with intervals; one column per condition."""
    sums = rows.group_by(*by, "condition", maintain_order=True).agg(
        pl.col("right").sum(), n=pl.col("n_questions").sum()
    )
    low, high = proportion_confint(sums["right"].to_numpy(), sums["n"].to_numpy(), method="wilson")
    both = sums.with_columns(share=pl.col("right") / pl.col("n"), low=pl.Series(low), high=pl.Series(high))
    wide = both.pivot("condition", index=[*by, "n"], values=["share", "low", "high"], maintain_order=True)
    names = {
        f"{v}_{c}": f"{c}{s}"
        for c in ("closed_book", "icl")
        for v, s in (("share", ""), ("low", "_low"), ("high", "_high"))
    }
    return wide.rename(names)


def add_gap(arms: pl.DataFrame, counts: pl.DataFrame) -> pl.DataFrame:
    """Adds the remaining gap: ICL before training, over the arm's own trials, minus its closed-book accuracy."""
    reference = (
        counts.filter(moment="before", condition="icl")
        .group_by(ARM)
        .agg(in_context=pl.col("right").sum() / pl.col("n_questions").sum())
    )
    return (
        arms.join(reference, on=ARM, how="left", maintain_order="left")
        .with_columns(gap=pl.col("in_context").fill_null(pl.col("icl")) - pl.col("closed_book"))
        .drop("in_context")
    )


CAPTION = (
    "before: the model before training, asked without and with the news\n"
    "gap: ICL before training − closed-book accuracy, in points; after naive it is the FT-ICL gap\n"
    "prefix: the news was before the same data in training; contextual shadowing, if the model learns less\n"
    "ICL lower than before: overexposure"
)


def result_table(trials: pl.DataFrame) -> Table:
    """The summary for a terminal."""
    title = "Share of questions answered right [95 % interval]; chance is 1 / options"
    table = Table(title=title, caption=CAPTION, caption_justify="left")
    for name in ("trainee", "protocol", "context mode", "questions", "closed-book", "with the news (ICL)", "gap"):
        table.add_column(name, justify="left" if name in ("trainee", "protocol", "context mode") else "right")
    for row in summarise(trials).iter_rows(named=True):
        cells = [format_interval(row, "closed_book"), format_interval(row, "icl"), f"{100 * row['gap']:+.0f}"]
        table.add_row(row["trainee"], row["protocol"], row["context_mode"], str(row["n"]), *cells)
    return table


def format_interval(row: dict[str, float], condition: str) -> str:
    """A share with its interval, in percent."""
    low, high = round(100 * row[f"{condition}_low"]), round(100 * row[f"{condition}_high"])
    return f"{100 * row[condition]:.0f} % [{low}–{high}]"
