"""Differences between the arms of a study, paired by news item, and the ranking of protocols."""

import made_study
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.study import by_item, contrasts
from analysis.study import fits as study_fits


@pytest.fixture(scope="module")
def items() -> pl.DataFrame:
    return by_item.make_table(*made_study.tables())


def test_one_row_per_trial_and_item_has_the_accuracies_of_its_questions(items: pl.DataFrame) -> None:
    _, questions = made_study.tables()
    one = items.row(17, named=True)
    mine = questions.filter(trial=one["trial"], item=one["item"], condition="icl", moment="after")
    assert one["icl_after"] == mine["correct"].mean()
    assert one["n_questions"] == 5
    assert items.height == items.select("trial", "item").n_unique()


def test_the_prefix_arms_of_a_study_are_reported_as_shadowed(items: pl.DataFrame) -> None:
    rows = contrasts.measure_shadowing(items)
    assert rows["trainee"].to_list() == ["small", "middle", "large"]
    for row in rows.iter_rows(named=True):
        assert row["context_mode"] == "prefix"
        assert row["high"] < -0.5
        assert row["p_value"] < 0.01


def test_what_training_does_not_change_is_not_called_overexposure(items: pl.DataFrame) -> None:
    """Nine tests without an effect: no p-value is below 0.01."""
    assert min(contrasts.measure_overexposure(items)["p_value"].to_list()) > 0.01
    assert contrasts.measure_overexposure(items).height == 9


def test_worse_use_of_the_context_after_training_is_called_overexposure(items: pl.DataFrame) -> None:
    worse = items.with_columns(icl_after=pl.col("icl_after") - pl.when(protocol="naive").then(0.2).otherwise(0.0))
    rows = contrasts.measure_overexposure(worse)
    naive, others = (
        rows.filter(keep).to_dicts() for keep in (pl.col("protocol") == "naive", pl.col("protocol") != "naive")
    )
    assert len(naive) == 3
    assert max(row["high"] for row in naive) < 0
    assert min(row["p_value"] for row in others) > 0.01


def test_protocols_are_ranked_by_what_they_teach(items: pl.DataFrame) -> None:
    ranking = contrasts.rank(items)
    assert ranking is not None
    assert ranking.accuracies["protocol"].to_list() == ["self_qa", "paraphrase", "naive"]
    assert ranking.sentence.startswith("self_qa ranks first: better than paraphrase and naive")


def test_p_values_are_corrected_after_holm() -> None:
    """The smallest of three is multiplied by three, the next by two, and none falls below one before it."""
    rng = np.random.default_rng(0)
    by_protocol = {name: rng.normal(mean, 0.3, 8) for name, mean in (("a", 0.6), ("b", 0.45), ("c", 0.3))}
    pairs = contrasts.compare_pairs(pl.DataFrame(by_protocol), ["a", "b", "c"]).sort("p_value")
    assert pairs["p_value"].to_list() == pytest.approx([2 / 256, 4 / 256, 6 / 256])
    assert pairs["p_holm"].to_list() == pytest.approx([6 / 256, 8 / 256, 8 / 256])


def test_protocols_are_ranked_over_shared_cells_and_the_others_are_named(items: pl.DataFrame) -> None:
    largest_only = items.filter((pl.col("protocol") != "self_qa") | (pl.col("budget") == 256))
    rest = largest_only.filter((pl.col("protocol") == "self_qa") | (pl.col("budget") < 256))
    ranking = contrasts.rank(rest)
    assert ranking is not None
    assert ranking.accuracies["protocol"].to_list() == ["paraphrase", "naive"]
    assert ranking.left_out == ("self_qa",)


def test_protocols_that_teach_the_same_rarely_differ_significantly() -> None:
    """Two arms of one truth, forty times: at most 5 % differ significantly, except for chance."""
    significant = []
    for seed in range(40):
        naive = by_item.make_table(*made_study.tables(domains=1, seeds=2, seed=seed)).filter(protocol="naive")
        one, other = naive.filter(seed=0), naive.filter(seed=1).with_columns(protocol=pl.lit("b"), seed=0)
        ranking = contrasts.rank(pl.concat([one, other.cast(dict(one.schema))]))
        assert ranking is not None
        significant.append("better than" in ranking.sentence)
    assert np.mean(significant) <= 0.15


def test_copies_do_not_differ_significantly(items: pl.DataFrame) -> None:
    twice = pl.concat(
        [items.filter(protocol="naive"), items.filter(protocol="naive").with_columns(protocol=pl.lit("b"))]
    )
    ranking = contrasts.rank(twice)
    assert ranking is not None
    assert "no significant difference from" in ranking.sentence
    assert contrasts.rank(items.filter(protocol="naive")) is None


def test_gaps_are_those_of_the_largest_budget(items: pl.DataFrame) -> None:
    largest = items.filter(trainee="small", protocol="naive", budget=256, domain="domain-0")
    wanted = (largest["icl_before"] - largest["closed_book_after"]).mean()
    [row] = contrasts.measure_gaps(items).filter(trainee="small", protocol="naive", domain="domain-0").to_dicts()
    assert row["mean"] == pytest.approx(wanted)
    assert row["n_items"] == 10


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=2, max_size=12))
def test_a_difference_and_its_opposite_are_measured_alike(values: list[float]) -> None:
    one, other = contrasts.measure_difference(np.array(values)), contrasts.measure_difference(-np.array(values))
    assert one.mean == pytest.approx(-other.mean)
    assert one.p_value == pytest.approx(other.p_value)
    assert one.low == (None if other.high is None else pytest.approx(-other.high))


def test_a_difference_has_student_s_interval_and_an_exact_p_value() -> None:
    """Five values by hand: t of 4 degrees at 95 % is 2.132; two of the 32 sign patterns give a mean as large."""
    difference = contrasts.measure_difference(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    half = 2.1318 * np.sqrt(2.5 / 5)
    assert (difference.n_items, difference.mean) == (5, 3.0)
    assert (difference.low, difference.high) == pytest.approx((3 - half, 3 + half), abs=1e-3)
    assert difference.p_value == pytest.approx(2 / 32)


def test_equal_values_have_no_interval_and_one_value_has_no_p_value() -> None:
    equal = contrasts.measure_difference(np.array([0.5, 0.5, 0.5]))
    assert (equal.low, equal.high, equal.p_value) == (None, None, 0.25)
    assert contrasts.measure_difference(np.array([0.5])).p_value is None


def test_tests_without_a_difference_reject_as_rarely_as_they_claim() -> None:
    rng = np.random.default_rng(0)
    p = [contrasts.measure_difference(rng.normal(size=8)).p_value for _ in range(400)]
    assert np.mean(np.array(p) < 0.1) == pytest.approx(0.1, abs=0.045)


def test_the_headline_is_the_gap_over_all_domains_though_their_budgets_differ(items: pl.DataFrame) -> None:
    uneven = items.filter((pl.col("domain") != "domain-1") | (pl.col("budget") < 256))
    gaps = contrasts.measure_gaps(uneven)
    rows = study_fits.select_headlines(gaps)
    assert rows["trainee"].to_list() == ["small", "middle", "large"]
    for row in rows.iter_rows(named=True):
        assert row["n_items"] == 20
        assert row["domain"] == contrasts.EVERYWHERE
