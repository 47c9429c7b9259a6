"""Checks whether questions about news measure knowledge of the news: tables and verdicts from models' answers.

A question is good if a model cannot answer it without the news (closed-book, and from the options alone, it is at
chance), can answer it with the news (ICL), and if its wording does not reveal the answer (no simple rule, such as to
take the longest option, is better than random guessing). Intervals are Wilson's, of 95 %, and take questions as
independent.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl
from statsmodels.stats.proportion import proportion_confint

EVERY_DOMAIN = "all"
NEWS_RULE, NEWS_RULE_TOLERANCE = "most words of the news", 0.10  # a little above chance: the news contains the answers


@dataclass(frozen=True, slots=True)
class Verdict:
    """One check, whether its claim is true, and the numbers."""

    check: str
    holds: bool
    detail: str


def shares(rows: pl.DataFrame) -> pl.DataFrame:
    """Right answers by model, domain (and over all domains), form and condition: n, chance, share, low, high.

    `rows`: model, params, domain, form, condition, correct (0 to 1), n_options (0: no options, no chance).
    """
    by = ["params", "model", "domain", "form", "condition"]
    chance = pl.when(pl.col("n_options") > 0).then(1 / pl.col("n_options")).otherwise(0.0)
    every = [rows, rows.with_columns(domain=pl.lit(EVERY_DOMAIN))] if rows["domain"].n_unique() > 1 else [rows]
    counts = (
        pl.concat(every)
        .group_by(by, maintain_order=True)
        .agg(n=pl.len(), chance=chance.mean(), share=pl.col("correct").cast(pl.Float64).mean())
    )
    low, high = proportion_confint((counts["share"] * counts["n"]).to_numpy(), counts["n"].to_numpy(), method="wilson")
    return counts.with_columns(low=pl.Series(low), high=pl.Series(high)).sort(by)


def accuracy_table(accuracies: pl.DataFrame) -> pl.DataFrame:
    """`shares` for a reader: one row per domain and model, one column per form and condition."""
    cell = pl.format("{} [{}–{}]", *((100 * pl.col(c)).round().cast(pl.Int64) for c in ("share", "low", "high")))
    heading = pl.col("form") + ", " + pl.col("condition").str.replace_all("_", " ")
    return (
        accuracies.with_columns(asked=heading, cell=cell)
        .pivot("asked", index=["domain", "model"], values="cell", maintain_order=True)
        .sort("domain", maintain_order=True)
    )


def rule_table(rules: pl.DataFrame) -> pl.DataFrame:
    """One row per rule, one column per domain: percent of the questions that the rule answers right."""
    percent = (100 * pl.col("correct").mean()).round().cast(pl.Int64)
    cells = rules.group_by("rule", "domain", maintain_order=True).agg(percent.alias("percent"))
    return cells.pivot("domain", index="rule", values="percent", maintain_order=True)


def verdicts(accuracies: pl.DataFrame, rules: pl.DataFrame) -> Iterator[Verdict]:
    """All checks by domain, on the choice questions. `accuracies`: `shares`."""
    choice = accuracies.filter(form="choice")
    for row in choice.filter(pl.col("condition") != "icl").iter_rows(named=True):
        name = f"{row['domain']}: {row['model']}, {row['condition'].replace('_', ' ')}, is at chance"
        detail = f"{row['share']:.0%} [{row['low']:.0%}–{row['high']:.0%}], chance {row['chance']:.0%}"
        yield Verdict(name, row["low"] <= row["chance"] <= row["high"], detail)
    for (domain,), part in choice.filter(condition="icl").group_by("domain", maintain_order=True):
        detail = ", ".join(f"{m} {s:.0%}" for m, s in zip(part["model"], part["share"], strict=True))
        if part.height > 1:
            rises = part["share"].is_sorted() and part["share"].n_unique() > 1
            yield Verdict(f"{domain}: ICL rises with size", rises, detail)
    yield from rule_verdicts(rules)


def rule_verdicts(rules: pl.DataFrame) -> Iterator[Verdict]:
    """Whether each rule is within the 95 % interval of random guessing."""
    by_rule = rules.group_by("domain", "rule", maintain_order=True).agg(
        n=pl.len(), chance=(1 / pl.col("n_options")).mean(), share=pl.col("correct").mean()
    )
    for row in by_rule.iter_rows(named=True):
        spread = 1.96 * (row["chance"] * (1 - row["chance"]) / row["n"]) ** 0.5
        allowed = max(spread, NEWS_RULE_TOLERANCE) if row["rule"] == NEWS_RULE else spread
        detail = f"{row['share']:.0%}, chance {row['chance']:.0%} ± {allowed:.0%}"
        yield Verdict(f"{row['domain']}: {row['rule']}", abs(row["share"] - row["chance"]) <= allowed, detail)


def failed_in_context(rows: pl.DataFrame) -> pl.DataFrame:
    """Items of which the largest model answers fewer than half of the choice questions right with the news."""
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
