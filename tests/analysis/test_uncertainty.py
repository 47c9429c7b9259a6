"""Intervals contain the truth as often as they claim: of parameters and of predictions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.fits import examples, profile, selection, uncertainty
from analysis.fits.fit import fit, fit_points
from analysis.fits.influence import rank_influence
from analysis.fits.problem import Points
from analysis.laws import form


@pytest.mark.slow
@pytest.mark.parametrize("name", ["additive", "rectified", "logistic", "multiplicative"])
def test_bootstrap_intervals_contain_the_truth_as_often_as_they_claim(name: str) -> None:
    """90 % of 100 draws, within three standard errors; `jobs/bench fits` measures all laws with more draws."""
    law, covered = form.find(name), []
    accuracy = law.of == "accuracy"
    for seed in range(100):
        points = examples.make_shares(name, 200, seed) if accuracy else examples.make_losses(name, 0.005, seed)
        result = fit_points(law, points, objective="binomial" if accuracy else "mse:log", starts=8)
        bounds = uncertainty.intervals(result, uncertainty.bootstrap(result, 200, 1000 + seed))
        truth = examples.TRUTH[name]
        covered.append([low <= truth[k] <= high for k, b in bounds.items() for low, high in [b["percentile"]]])
    assert np.mean(covered, axis=0) == pytest.approx(0.9, abs=0.09)


@settings(deadline=None)
@given(st.floats(0.5, 0.95), st.integers(5, 500), st.integers(1, 9))
def test_intervals_from_few_points_are_wider(level: float, n: int, p: int) -> None:
    few, more, many = (uncertainty.widen(level, size, p) for size in (n + p, 2 * n + p, 10_000_000))
    assert level < more < few < 1
    assert many == pytest.approx(level, abs=1e-4)


def test_widened_percentiles_of_few_points_contain_the_mean_as_often_as_they_claim() -> None:
    """Means of eight normal points: plain percentiles of resamples contain the truth in 83 % of cases, not in 90 %."""
    rng = np.random.default_rng(0)
    widened, plain = [], []
    for _ in range(600):
        values = rng.normal(size=8)
        means = rng.choice(values, (400, 8)).mean(1)
        for covered, level in ((widened, uncertainty.widen(0.9, 8, 1)), (plain, 0.9)):
            low, high = uncertainty.percentile_interval(means, level)
            covered.append(low <= 0 <= high)
    assert np.mean(widened) == pytest.approx(0.9, abs=0.03)
    assert np.mean(plain) < 0.86


def test_prediction_intervals_contain_points_beyond_the_fit() -> None:
    covered = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x = np.geomspace(10, 1e5, 40)
        y = (3 * x**-0.3 + 0.3) * np.exp(0.01 * rng.standard_normal(40))
        train, hidden = slice(0, 28), {"x": x[28:]}
        points = Points(variables={"x": x[train]}, y=y[train])
        ranked = selection.compare(
            [form.find(n) for n in ("power", "power_offset")], points, objective="mse:log", starts=8
        )
        members = [
            uncertainty.Member(
                fit=c.fit, resamples=uncertainty.bootstrap(c.fit, 200, seed), weight=c.weight, misses=c.misses
            )
            for c in ranked
        ]
        low, high = uncertainty.mixed_intervals(members, hidden, seed=seed)
        covered.append((low <= y[28:]) & (y[28:] <= high))
    assert 0.8 <= np.mean(covered) <= 0.97


def test_past_misses_widen_predictions_beyond_the_fit_only() -> None:
    points = examples.make_losses("power", 0.001)
    result = fit_points(form.find("power"), points, objective="mse:log")
    resamples = uncertainty.bootstrap(result, 200)
    at = {"x": np.array([1e3, 1e8])}
    narrow = uncertainty.mixed_intervals([uncertainty.Member(fit=result, resamples=resamples)], at)
    with_misses = uncertainty.Member(fit=result, resamples=resamples, misses=np.array([0.1, 0.2]))
    wide = uncertainty.mixed_intervals([with_misses], at)
    width = [np.log(high / low) for low, high in (narrow, wide)]
    assert width[1][0] == pytest.approx(width[0][0])
    assert width[1][1] > 10 * width[0][1]


def test_a_profile_is_one_sided_where_the_data_set_one_bound() -> None:
    x = np.geomspace(10, 300, 25)
    y = 3 * x**-0.3 * np.exp(0.002 * np.random.default_rng(1).standard_normal(25))  # without an offset
    result = fit(form.find("power_offset"), {"x": x}, y, objective="mse:log")
    low, high = profile.find_interval(result, "e")
    assert low is None
    assert high is not None
    assert 0 < high < y.min()


def test_a_profile_agrees_with_standard_errors_of_a_well_determined_parameter() -> None:
    points = examples.make_losses("additive", 0.002)
    result = fit_points(form.find("additive"), points, objective="mse:log")
    low, high = profile.find_interval(result, "alpha")
    assert low is not None
    assert high is not None
    wanted = 1.65 * result.standard_errors["alpha"]
    assert result.parameters["alpha"] - low == pytest.approx(wanted, rel=0.15)
    assert high - result.parameters["alpha"] == pytest.approx(wanted, rel=0.15)


def test_a_wrong_point_has_the_most_influence() -> None:
    points = examples.make_losses("power", 0.001)
    y = points.y.copy()
    y[11] *= 1.5
    result = fit(form.find("power"), points.variables, y, objective="mse:log")
    strongest = rank_influence(result)[0]
    assert strongest.left_out == 12  # rows count from 1
    assert strongest.parameters["c"] == pytest.approx(-0.3, abs=1e-3)


def test_a_wrong_cluster_has_the_most_influence() -> None:
    points = examples.make_losses("power", 0.001)
    of = ["abcd"[i % 4] for i in range(len(points.y))]
    y = points.y * np.where(np.array(of) == "c", 1.2, 1.0)
    result = fit(form.find("power"), points.variables, y, objective="mse:log")
    assert rank_influence(result, of)[0].left_out == "c"
