"""Do questions about news measure what they say? Tables and verdicts from what models and dumb rules made of them.

A question is good if it cannot be answered without the news (closed-book, and from the options alone, a model does not
beat chance), can be answered with it (ICL), and does not give its answer away by its wording (no rule that understands
nothing beats chance). Intervals are Wilson's, of 95 %, and treat questions as independent.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl
from statsmodels.stats.proportion import proportion_confint

EVERY_DOMAIN = "all"
NEWS_RULE, NEWS_RULE_TOLERANCE = "most words of the news", 0.10  # it may do a little better: the answers are in there


@dataclass(frozen=True, slots=True)
class Verdict:
    """One check, whether it holds, and the numbers."""

    check: str
    holds: bool
    detail: str


def shares(rows: pl.DataFrame) -> pl.DataFrame:
    """Right answers by model, domain (and over all of them), form and condition: n, chance, share, low, high.

    `rows`: model, params, domain, form, condition, correct (0 to 1), n_options (0: no options, no chance).
    """
    by = ["params", "model", "domain", "form", "condition"]
    chance = pl.when(pl.col("n_options") > 0).then(1 / pl.col("n_options")).otherwise(0.0)
    every = [rows, rows.with_columns(domain=pl.lit(EVERY_DOMAIN))] if rows["domain"].n_unique() > 1 else [rows]
    found = (
        pl.concat(every)
        .group_by(by, maintain_order=True)
        .agg(n=pl.len(), chance=chance.mean(), share=pl.col("correct").cast(pl.Float64).mean())
    )
    low, high = proportion_confint((found["share"] * found["n"]).to_numpy(), found["n"].to_numpy(), method="wilson")
    return found.with_columns(low=pl.Series(low), high=pl.Series(high)).sort(by)


def accuracy_table(found: pl.DataFrame) -> pl.DataFrame:
    """`shares` for a reader: a row a domain and model, a column a form and condition."""
    cell = pl.format("{} [{}–{}]", *((100 * pl.col(c)).round().cast(pl.Int64) for c in ("share", "low", "high")))
    named = found.with_columns(asked=pl.col("form") + ", " + pl.col("condition").str.replace_all("_", " "), cell=cell)
    return named.pivot("asked", index=["domain", "model"], values="cell", maintain_order=True).sort(
        "domain", maintain_order=True
    )


def rule_table(rules: pl.DataFrame) -> pl.DataFrame:
    """A row a rule, a column a domain: percent of the questions that the rule gets right."""
    percent = (100 * pl.col("correct").mean()).round().cast(pl.Int64)
    found = rules.group_by("rule", "domain", maintain_order=True).agg(percent.alias("percent"))
    return found.pivot("domain", index="rule", values="percent", maintain_order=True)


def verdicts(found: pl.DataFrame, rules: pl.DataFrame) -> Iterator[Verdict]:
    """Every check by domain, on the choice questions."""
    choice = found.filter(form="choice")
    for row in choice.filter(pl.col("condition") != "icl").iter_rows(named=True):
        name = f"{row['domain']}: {row['model']}, {row['condition'].replace('_', ' ')}, is at chance"
        told = f"{row['share']:.0%} [{row['low']:.0%}–{row['high']:.0%}], chance {row['chance']:.0%}"
        yield Verdict(name, row["low"] <= row["chance"] <= row["high"], told)
    for (domain,), part in choice.filter(condition="icl").group_by("domain", maintain_order=True):
        told = ", ".join(f"{m} {s:.0%}" for m, s in zip(part["model"], part["share"], strict=True))
        if part.height > 1:
            rises = part["share"].is_sorted() and part["share"].n_unique() > 1
            yield Verdict(f"{domain}: ICL rises with size", rises, told)
    yield from rule_verdicts(rules)


def rule_verdicts(rules: pl.DataFrame) -> Iterator[Verdict]:
    """Is each rule within the interval that a guesser would fall into?"""
    found = rules.group_by("domain", "rule", maintain_order=True).agg(
        n=pl.len(), chance=(1 / pl.col("n_options")).mean(), share=pl.col("correct").mean()
    )
    for row in found.iter_rows(named=True):
        spread = 1.96 * (row["chance"] * (1 - row["chance"]) / row["n"]) ** 0.5
        allowed = max(spread, NEWS_RULE_TOLERANCE) if row["rule"] == NEWS_RULE else spread
        told = f"{row['share']:.0%}, chance {row['chance']:.0%} ± {allowed:.0%}"
        yield Verdict(f"{row['domain']}: {row['rule']}", abs(row["share"] - row["chance"]) <= allowed, told)


def failed_in_context(rows: pl.DataFrame) -> pl.DataFrame:
    """Items of which the largest model gets fewer than half of the choice questions right with the news at hand."""
    largest = rows.filter(pl.col("params") == pl.col("params").max(), form="choice", condition="icl")
    by_item = largest.group_by("item", maintain_order=True).agg(
        right=pl.col("correct").cast(pl.Int64).sum(),
        asked=pl.len(),
        wrong=pl.col("question").filter(~pl.col("correct").cast(pl.Boolean)).str.join(" "),
    )
    return by_item.filter(pl.col("right") * 2 < pl.col("asked"))


def markdown(table: pl.DataFrame) -> str:
    """A table as Markdown, whole."""
    with pl.Config(
        tbl_formatting="ASCII_MARKDOWN",
        tbl_hide_column_data_types=True,
        tbl_hide_dataframe_shape=True,
        tbl_rows=-1,
        tbl_cols=-1,
        tbl_width_chars=10_000,
        fmt_str_lengths=1_000,
    ):
        return str(table)
