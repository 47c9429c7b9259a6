"""Fits recover the true parameters, report what the data do not determine, and refuse what no fit can use."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.errors import BadValues, FitError, NoVariation, TooFewPoints
from analysis.fits import examples, selection, uncertainty
from analysis.fits.examples import TRUTH
from analysis.fits.fit import fit
from analysis.fits.problem import Points
from analysis.laws import form


def values(name: str, noise: float = 0.0, seed: int = 0) -> tuple[dict[str, Any], Any]:
    points = examples.make_losses(name, noise, seed)
    return dict(points.variables), points.y


def test_every_law_has_true_parameters() -> None:
    assert set(TRUTH) == set(form.LAWS)


@pytest.mark.parametrize("name", TRUTH)
def test_without_noise_every_law_recovers_its_parameters(name: str) -> None:
    x, y = values(name)
    result = fit(form.find(name), x, y, starts=64)
    assert result.converged
    assert result.parameters == pytest.approx(TRUTH[name], rel=1e-6)


@pytest.mark.parametrize("name", TRUTH)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    law, x = form.find(name), examples.make_variables(form.find(name))
    at = {k: np.asarray(v) for k, v in TRUTH[name].items()}
    _, gradient = law.value_and_gradient(x, at)
    for i, k in enumerate(law.names):
        h = 1e-6 * abs(TRUTH[name][k])
        numeric = (law.value(x, at | {k: at[k] + h}) - law.value(x, at | {k: at[k] - h})) / (2 * h)
        assert gradient[:, i] == pytest.approx(numeric, rel=1e-5, abs=1e-7 * np.abs(numeric).max())


@pytest.mark.parametrize("name", TRUTH)
@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_any_units_of_the_table_give_the_same_fit(name: str, factor: float) -> None:
    x, y = values(name, noise=0.002)
    law = form.find(name)
    times = 5 if law.of == "loss" else 1  # a share has one unit only
    plain = fit(law, x, y, starts=64)
    same = {v: factor * column for v, column in x.items()}
    scaled = fit(law, same, times * y, starts=64)
    assert scaled.value == pytest.approx(plain.value, rel=1e-4)
    assert scaled.predict(same) == pytest.approx(times * plain.predict(x), rel=1e-3)


@pytest.mark.parametrize("objective", ["huber:1e-3:log", "lad:log", "mse:log", "mse:raw", "lad:raw", "huber:0.01:raw"])
def test_no_objective_is_lower_anywhere_near_the_fit(objective: str) -> None:
    x, y = values("additive", noise=0.01)
    result = fit(form.find("additive"), x, y, objective=objective)
    problem, rng = result.problem, np.random.default_rng(0)
    for step in (1e-2, 1e-4):
        nearby = result.searched * (1 + step * rng.standard_normal((200, 5)))
        r, _ = problem.residuals(nearby)
        assert min(problem.objective.total(row, problem.weights) for row in r) >= result.value * (1 - 1e-9)


def test_most_starts_reach_the_best_minimum() -> None:
    x, y = values("additive", noise=0.01)
    result = fit(form.find("additive"), x, y)
    assert result.starts_at_optimum >= 0.95 * result.starts


def test_a_rare_minimum_is_found_with_few_starts() -> None:
    points = examples.make_losses("bnsl_2", 0.005, 5000)
    law = form.find("bnsl_2")
    at_truth = np.log(examples.evaluate_truth(law, points.variables) / points.y)
    result = fit(law, points.variables, points.y, objective="mse:log", starts=16)
    assert result.value <= (at_truth**2).sum()
    assert result.starts > 16


def test_no_law_of_accuracy_goes_beyond_all_answers_right() -> None:
    x = np.geomspace(1, 100, 20)
    rising = np.clip(0.1 + 0.19 * np.log(x), 0, 1)  # straight to 1: a free ceiling would be above 1
    result = fit(form.find("logistic"), {"x": x}, rising, objective="binomial", weights=np.full(20, 200.0))
    assert result.parameters["ceiling"] <= 1
    with pytest.raises(BadValues, match="y is no share between 0 and 1 in rows"):
        fit(form.find("logistic"), {"x": x}, 100 * rising, objective="mse:raw")


def test_a_parameter_that_the_data_do_not_determine_is_named() -> None:
    x, y = values("additive", noise=0.01)
    few = x["D"] < 2e9  # one amount of data in all points, except for rounding: B replaces beta
    nearly = {"N": x["N"][few], "D": x["D"][few] * (1 + 1e-6 * np.arange(few.sum()))}
    result = fit(form.find("additive"), nearly, y[few])
    assert [name for name, fine in result.identified.items() if not fine] == ["beta"]
    assert result.warnings == ("beta ended at its bound, 4: the data fit better beyond it.",)


def test_a_parameter_whose_error_exceeds_its_value_is_named() -> None:
    """These points have no offset; any small offset fits as well."""
    x, y = values("power", noise=0.02, seed=1)
    result = fit(form.find("power_offset"), x, y, objective="mse:log")
    assert result.standard_errors["e"] > result.parameters["e"] > 0
    assert [name for name, fine in result.identified.items() if not fine] == ["e"]
    [warning] = result.warnings
    assert warning.startswith("e is not identified by these data: its standard error, ")


def test_a_term_that_the_data_do_not_need_ends_at_its_bound_and_is_named() -> None:
    x, y = values("power")
    bent = y * np.exp(-0.01 * np.log(x["x"] / 10) ** 2)  # falls faster and faster: an offset cannot help
    result = fit(form.find("power_offset"), x, bent)
    assert result.parameters["e"] == 0
    assert result.at_bound == ("e",)
    assert not result.identified["e"]
    assert any(line.startswith("e ended at its bound") for line in result.warnings)


def test_a_narrow_huber_loss_has_errors_like_least_squares_on_few_points() -> None:
    """The fit goes through as many points as it has parameters: these points say nothing about the errors."""
    ratios = []
    for seed in range(12):
        x = np.geomspace(10, 1e4, 8)
        y = 3 * x**-0.3 * np.exp(0.05 * np.random.default_rng(seed).standard_normal(8))
        narrow, wide = (fit(form.find("power"), {"x": x}, y, objective=o) for o in ("huber:1e-3:log", "mse:log"))
        ratios.append(narrow.standard_errors["c"] / wide.standard_errors["c"])
    assert 0.5 < np.median(ratios) < 3
    assert min(ratios) > 0.1


def test_prediction_intervals_contain_the_points_even_if_errors_are_one_sided() -> None:
    rng = np.random.default_rng(0)
    x = np.geomspace(10, 1e6, 400)
    y = 3 * x**-0.3 * np.exp(0.1 * rng.exponential(size=400))
    result = fit(form.find("power"), {"x": x}, y, objective="mse:log")
    alone = uncertainty.Member(fit=result, resamples=uncertainty.bootstrap(result, 400))
    low, high = uncertainty.mixed_intervals([alone], {"x": x})
    assert np.mean((low <= y) & (y <= high)) == pytest.approx(0.9, abs=0.03)
    middle = result.predict({"x": x})
    assert np.mean(np.log(high / middle)) > 1.5 * np.mean(np.log(middle / low))


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"x": [1.0, 2.0, 3.0]}, TooFewPoints, "3 points are too few for the 3 parameters of power_offset"),
        ({"x": [1.0, 2.0] * 5}, TooFewPoints, "2 different values of x are too few for the 3 parameters"),
        ({"x": [7.0] * 10}, NoVariation, "x is 7 in all points; power_offset needs it to vary"),
        ({"y": [1.0] * 9 + [float("nan")]}, BadValues, "y is not finite in row 10"),
        ({"x": [1.0, 2.0, -3.0, 0.0, *range(1, 7)]}, BadValues, "x is not above 0 in rows 3, 4, as it has to be"),
        ({"y": [1.0] * 8 + [0.0, -1.0]}, BadValues, "y is not above 0 in rows 9, 10, as it has to be under the"),
        ({"z": [1.0] * 10}, FitError, "needs the variable 'x'; the data have: z"),
    ],
)
def test_what_no_fit_can_use_is_refused_by_kind_name_and_row(
    change: dict[str, list[float]], kind: type[FitError], message: str
) -> None:
    columns = {"x": list(np.geomspace(1, 100, 10)), "y": list(np.geomspace(2, 1, 10))} | change
    if "z" in change:
        columns["z"] = columns.pop("x")
    y = columns.pop("y")[: len(next(iter(columns.values())))]
    with pytest.raises(kind, match=message):
        fit(form.find("power_offset"), columns, y)


@pytest.mark.parametrize("name", ["huber:log", "huber:0:log", "mse", "lad:ln", "huber:a:log", "least squares"])
def test_an_unknown_objective_is_refused(name: str) -> None:
    x, y = values("power")
    with pytest.raises(FitError, match="objective"):
        fit(form.find("power"), x, y, objective=name)


def test_a_law_of_your_own_is_one_function_without_a_gradient() -> None:
    try:

        @form.law("mine", variables="x", parameters=[form.amplitude("b", x="-c"), form.exponent("c"), form.offset("e")])
        def mine(x: Any, b: Any, c: Any, e: Any) -> Any:
            """b·x^−c + e"""
            return b * x**-c + e

        x, y = values("power_offset")
        result = fit(form.find("mine"), x, y)
        assert result.parameters == pytest.approx({"b": 3.0, "c": 0.3, "e": 0.5}, rel=1e-6)
    finally:
        form.LAWS.pop("mine", None)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 40), st.integers(0, 1000))
def test_resampling_keeps_the_number_of_points_and_whole_clusters(n_clusters: int, seed: int) -> None:
    of = [i % n_clusters for i in range(80)]
    counts = uncertainty.count_in_resamples(np.random.default_rng(seed), 3, 80, of)
    assert all(len({row[i] for i in range(80) if of[i] == c}) == 1 for row in counts for c in set(of))
    plain = uncertainty.count_in_resamples(np.random.default_rng(seed), 3, 80, None)
    assert plain.sum(1).tolist() == [80.0] * 3


def test_the_form_that_made_the_data_predicts_best() -> None:
    x, y = values("power_offset", noise=0.002)
    forms = [form.find(n) for n in ("power", "power_offset")]
    ranked = selection.compare(forms, Points(variables=x, y=y), objective="mse:log")
    assert ranked[0].fit.law.name == "power_offset"
    assert ranked[0].aicc < ranked[1].aicc
    assert ranked[0].bic < ranked[1].bic
    assert ranked[0].rolling < 0.01 < ranked[1].rolling
    assert [round(c.weight, 3) for c in ranked] == [1, 0]


def test_a_form_that_cannot_be_fitted_does_not_spoil_the_others() -> None:
    nowhere = form.find("power_offset").rename(("x",))
    broken = dataclasses.replace(nowhere, name="broken", function=lambda x, b, c, e: np.nan * x * b)
    points = examples.make_losses("power", 0.001)
    forms = [form.find("power"), broken, form.find("bnsl_2")]
    few = points.take(np.arange(8))
    ranked = selection.compare(forms, few, objective="mse:log")
    assert [c.fit.law.name for c in ranked] == ["power"]
    refused = selection.explain_refusals(forms, ranked, few, "mse:log")
    assert refused["broken"] == "it has no finite objective at any start"
    assert "8 points are too few for the 9 parameters" in refused["bnsl_2"]


def test_points_of_one_size_are_hidden_together() -> None:
    size = np.log(np.repeat([1.0, 2.0, 4.0, 8.0], 10))
    assert selection.choose_cuts(size) == [10, 20]
    assert selection.choose_cuts(np.log(np.arange(1.0, 41.0))) == [4, 8, 12, 16, 20]
    assert selection.choose_cuts(np.zeros(7)) == []
