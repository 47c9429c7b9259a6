"""Each trial's accuracy on each news item, without and with the news, before and after training.

The unit of all comparisons: the questions of an item stand and fall together, so it is items that differences are taken
over and errors are clustered by.
"""

import polars as pl

from analysis.errors import FitError

# What tells one trial from another, but for its protocol and context mode: arms are compared within a cell.
CELL = ["trainee", "generator", "method", "domain", "budget", "seed", "learning_rate", "epochs"]
COSTS = ["train_tokens", "train_flops", "selfplay_flops"]
ACCURACIES = ["closed_book_before", "icl_before", "closed_book_after", "icl_after"]


def table(trials: pl.DataFrame, questions: pl.DataFrame) -> pl.DataFrame:
    """A row a trial and item: the trial's columns, n_questions, chance, and the four ACCURACIES of its choices.

    `trials` and `questions`: the two results tables. Raises FitError if they lack one of the four.
    """
    about = trials.select("trial", *CELL, "protocol", "context_mode", "params", *COSTS).unique("trial")
    choices = questions.filter(form="choice").with_columns(
        asked=pl.concat_str("condition", "moment", separator="_"), chance=1 / pl.col("option_logprobs").list.len()
    )
    if missing := set(ACCURACIES) - set(choices["asked"].unique()):
        raise FitError(f"the results hold no choices asked {min(missing).replace('_', ' ')} training")
    counted = (
        choices.filter(asked="closed_book_after")
        .group_by("trial", "item")
        .agg(pl.col("chance").mean(), n_questions=pl.len())
    )
    shares = choices.group_by("trial", "item", "asked").agg(pl.col("correct").mean())
    wide = shares.pivot("asked", index=["trial", "item"], values="correct").join(counted, on=["trial", "item"])
    return (
        wide.join(about, on="trial")
        .select(*about.columns, "item", "n_questions", "chance", *ACCURACIES)
        .sort("params", "trial", "item")
    )


def largest_budget(items: pl.DataFrame) -> pl.DataFrame:
    """The rows at each arm's largest budget."""
    arm = ["trainee", "generator", "method", "domain", "protocol", "context_mode"]
    return items.filter(pl.col("budget") == pl.col("budget").max().over(arm))
