"""Intervals hold the truth as often as they say: of parameters, of predictions, of what data hardly tell."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.fits import examples, profile, selection, uncertainty
from analysis.fits.fit import fit, fit_points
from analysis.fits.influence import influence
from analysis.fits.problem import Points
from analysis.laws import form


@pytest.mark.slow
@pytest.mark.parametrize("name", ["additive", "rectified", "logistic", "multiplicative"])
def test_bootstrap_intervals_hold_the_truth_as_often_as_they_say(name: str) -> None:
    """90 % of 100 draws, within three standard errors; `jobs/bench_fits.py` does all laws with more draws."""
    law, held = form.find(name), []
    accuracy = law.of == "accuracy"
    for seed in range(100):
        made = examples.shares(name, 200, seed) if accuracy else examples.losses(name, 0.005, seed)
        found = fit_points(law, made, objective="binomial" if accuracy else "mse:log", starts=8)
        bounds = uncertainty.intervals(found, uncertainty.bootstrap(found, 200, 1000 + seed))
        truth = examples.TRUE[name]
        held.append([low <= truth[k] <= high for k, b in bounds.items() for low, high in [b["percentile"]]])
    assert np.mean(held, axis=0) == pytest.approx(0.9, abs=0.09)


@settings(deadline=None)
@given(st.floats(0.5, 0.95), st.integers(5, 500), st.integers(1, 9))
def test_intervals_from_few_points_are_wider(level: float, n: int, p: int) -> None:
    few, more, many = (uncertainty.expanded(level, size, p) for size in (n + p, 2 * n + p, 10_000_000))
    assert level < more < few < 1
    assert many == pytest.approx(level, abs=1e-4)


def test_widened_percentiles_of_few_points_contain_the_mean_as_often_as_they_say() -> None:
    """Means of eight normal points: plain percentiles of resamples contain the truth in 83 % of cases, not in 90 %."""
    rng = np.random.default_rng(0)
    widened, plain = [], []
    for _ in range(600):
        values = rng.normal(size=8)
        means = rng.choice(values, (400, 8)).mean(1)
        for held, level in ((widened, uncertainty.expanded(0.9, 8, 1)), (plain, 0.9)):
            low, high = uncertainty.percentile(means, level)
            held.append(low <= 0 <= high)
    assert np.mean(widened) == pytest.approx(0.9, abs=0.03)
    assert np.mean(plain) < 0.86


def test_prediction_intervals_hold_points_beyond_the_fit() -> None:
    held = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x = np.geomspace(10, 1e5, 40)
        y = (3 * x**-0.3 + 0.3) * np.exp(0.01 * rng.standard_normal(40))
        kept, hidden = slice(0, 28), {"x": x[28:]}
        given_ = Points(variables={"x": x[kept]}, y=y[kept])
        ranked = selection.compare(
            [form.find(n) for n in ("power", "power_offset")], given_, objective="mse:log", starts=8
        )
        members = [
            uncertainty.Member(
                fit=c.fit, draws=uncertainty.bootstrap(c.fit, 200, seed), weight=c.weight, misses=c.misses
            )
            for c in ranked
        ]
        low, high = uncertainty.mixed_intervals(members, hidden, seed=seed)
        held.append((low <= y[28:]) & (y[28:] <= high))
    assert 0.8 <= np.mean(held) <= 0.97


def test_where_a_form_missed_before_its_predictions_beyond_are_less_sure_and_those_within_are_not() -> None:
    made = examples.losses("power", 0.001)
    found = fit_points(form.find("power"), made, objective="mse:log")
    draws = uncertainty.bootstrap(found, 200)
    at = {"x": np.array([1e3, 1e8])}
    sure = uncertainty.mixed_intervals([uncertainty.Member(fit=found, draws=draws)], at)
    missed = uncertainty.Member(fit=found, draws=draws, misses=np.array([0.1, 0.2]))
    unsure = uncertainty.mixed_intervals([missed], at)
    width = [np.log(high / low) for low, high in (sure, unsure)]
    assert width[1][0] == pytest.approx(width[0][0])
    assert width[1][1] > 10 * width[0][1]


def test_a_profile_is_one_sided_where_the_data_set_one_bound() -> None:
    x = np.geomspace(10, 300, 25)
    y = 3 * x**-0.3 * np.exp(0.002 * np.random.default_rng(1).standard_normal(25))  # no offset to be seen
    found = fit(form.find("power_offset"), {"x": x}, y, objective="mse:log")
    low, high = profile.interval(found, "e")
    assert low is None
    assert high is not None
    assert 0 < high < y.min()


def test_a_profile_agrees_with_standard_errors_where_the_data_tell_much() -> None:
    made = examples.losses("additive", 0.002)
    found = fit_points(form.find("additive"), made, objective="mse:log")
    low, high = profile.interval(found, "alpha")
    assert low is not None
    assert high is not None
    wanted = 1.65 * found.standard_errors["alpha"]
    assert found.parameters["alpha"] - low == pytest.approx(wanted, rel=0.15)
    assert high - found.parameters["alpha"] == pytest.approx(wanted, rel=0.15)


def test_the_point_that_was_moved_has_the_most_influence() -> None:
    made = examples.losses("power", 0.001)
    y = made.y.copy()
    y[11] *= 1.5
    found = fit(form.find("power"), made.variables, y, objective="mse:log")
    strongest = influence(found)[0]
    assert strongest.left_out == 12  # rows count from 1
    assert strongest.parameters["c"] == pytest.approx(-0.3, abs=1e-3)


def test_the_cluster_that_was_moved_has_the_most_influence() -> None:
    made = examples.losses("power", 0.001)
    of = ["abcd"[i % 4] for i in range(len(made.y))]
    y = made.y * np.where(np.array(of) == "c", 1.2, 1.0)
    found = fit(form.find("power"), made.variables, y, objective="mse:log")
    assert influence(found, of)[0].left_out == "c"
