"""The accuracy of each trial on each news item, without and with the news, before and after training.

News items are the unit of all comparisons: the answers to the questions of one item are correlated, so differences are
averaged over items and errors are clustered by item.
"""

import polars as pl

from analysis.errors import FitError

# What differs between trials, except their protocol and context mode: arms are compared within a cell.
CELL = ["trainee", "generator", "method", "domain", "budget", "seed", "learning_rate", "epochs"]
COSTS = ["train_tokens", "train_flops", "selfplay_flops"]
ACCURACIES = ["closed_book_before", "icl_before", "closed_book_after", "icl_after"]


def make_table(trials: pl.DataFrame, questions: pl.DataFrame) -> pl.DataFrame:
    """One row per trial and item: the trial's columns, n_questions, chance, and its four ACCURACIES on choices.

    `trials` and `questions`: the two results tables. Raises FitError if one of the four is not there.
    """
    about = trials.select("trial", *CELL, "protocol", "context_mode", "params", *COSTS).unique("trial")
    choices = questions.filter(form="choice").with_columns(
        setting=pl.concat_str("condition", "moment", separator="_"), chance=1 / pl.col("option_logprobs").list.len()
    )
    if missing := set(ACCURACIES) - set(choices["setting"].unique()):
        name = min(missing).replace("_", " ")
        raise FitError(f"the results contain no choices asked {name} training: run the study with the form choice")
    counts = (
        choices.filter(setting="closed_book_after")
        .group_by("trial", "item")
        .agg(pl.col("chance").mean(), n_questions=pl.len())
    )
    shares = choices.group_by("trial", "item", "setting").agg(pl.col("correct").mean())
    wide = shares.pivot("setting", index=["trial", "item"], values="correct").join(counts, on=["trial", "item"])
    return (
        wide.join(about, on="trial")
        .select(*about.columns, "item", "n_questions", "chance", *ACCURACIES)
        .sort("params", "trial", "item")
    )


def keep_largest_budget(items: pl.DataFrame) -> pl.DataFrame:
    """The rows at the largest budget of each arm."""
    arm = ["trainee", "generator", "method", "domain", "protocol", "context_mode"]
    return items.filter(pl.col("budget") == pl.col("budget").max().over(arm))
