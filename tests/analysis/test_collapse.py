"""The test for one curve of all sizes: its verdicts where the truth is known, and why there is none."""

import made_study
import numpy as np
import polars as pl
import pytest

from analysis.study import by_item, collapse
from analysis.study import fits as study_fits


@pytest.fixture(scope="module")
def items() -> pl.DataFrame:
    return by_item.make_table(*made_study.tables())


@pytest.mark.parametrize(("over", "verdict"), [("train_flops", "compute"), ("train_tokens", "tokens")])
def test_the_sizes_collapse_over_the_variable_that_their_accuracy_depends_on(over: str, verdict: str) -> None:
    result = collapse.judge(collapse.make_points(by_item.make_table(*made_study.tables(over=over))))
    assert result.verdict == verdict
    assert f"onto one curve in training {verdict}" in result.headline


@pytest.mark.slow
def test_a_true_curve_is_rarely_rejected() -> None:
    """At 5 %, with twenty items, within which answers are correlated."""
    tables = (collapse.make_points(by_item.make_table(*made_study.tables(seeds=1, seed=seed))) for seed in range(40))
    p = [collapse.compare(points, "train_flops").clustered_p_value for points in tables]
    assert np.mean(np.array(p) < 0.05) <= 0.15


@pytest.mark.parametrize(
    ("keep", "reason"),
    [
        (pl.col("trainee") == "small", "one model size only"),
        (pl.col("budget") == 16, "fewer than two sizes were trained at several budgets"),
        (pl.col("item") < "domain-0-05", "5 news items are too few for errors clustered by item with 3 sizes"),
    ],
)
def test_why_there_is_no_verdict_is_explained(items: pl.DataFrame, keep: pl.Expr, reason: str) -> None:
    """The texts of the domains differ in length here, so that compute differs even at one budget."""
    longer = pl.when(domain="domain-1").then(2.0).otherwise(1.0)
    uneven = items.with_columns(pl.col("train_flops") * longer, pl.col("train_tokens") * longer)
    assert reason in study_fits.judge_collapse(uneven.filter(keep))


@pytest.mark.parametrize("accuracy", [0.0, 1.0])
def test_equal_answers_get_no_verdict(items: pl.DataFrame, accuracy: float) -> None:
    equal = items.with_columns(closed_book_after=pl.lit(accuracy))
    assert "all answers are right, or all are wrong" in study_fits.judge_collapse(equal)
