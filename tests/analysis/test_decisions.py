"""The best allocation of compute, and the choice of the next trial, on laws that are known."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from analysis.fits import allocation, design, examples
from analysis.fits.fit import fit
from analysis.laws import form


def test_the_best_allocation_has_the_lowest_loss_of_its_compute() -> None:
    truth = examples.TRUTH["additive"]
    law = form.find("additive")

    def loss(log_n: float) -> float:
        n = np.exp(log_n)
        return float(law.value({"N": n, "D": 1e21 / 6 / n}, truth))

    lowest = minimize_scalar(loss, bounds=(np.log(1e7), np.log(1e12)), method="bounded", options={"xatol": 1e-9})
    n, d = allocation.find_optimum(truth, 1e21)
    assert n == pytest.approx(np.exp(lowest.x), rel=1e-4)
    assert 6 * n * d == pytest.approx(1e21)


def test_suggested_trials_shrink_the_interval_most_per_cost() -> None:
    points = examples.make_losses("power", 0.01)
    result = fit(form.find("power"), points.variables, points.y, objective="mse:log")
    candidates = {"x": np.array([1e2, 1e3, 1e7])}
    far = {"x": np.array([1e8])}
    equal_costs = design.suggest(result, candidates, np.ones(3), far, 3)
    assert [one.row for one in equal_costs] == [2, 0, 1]  # the nearest to the target, then the one at the other end
    assert [one.width_before for one in equal_costs[1:]] == [one.width for one in equal_costs[:-1]]
    [cheap] = design.suggest(result, candidates, np.array([1.0, 1.0, 1e6]), far, 1)
    assert cheap.row == 0


def test_a_suggested_trial_shrinks_the_interval_as_predicted() -> None:
    """Predicted before it runs, by the derivatives; measured after it, by the standard error of the prediction."""
    rng = np.random.default_rng(0)
    x = np.geomspace(10, 1e4, 12)
    law, far = form.find("power"), {"x": np.array([1e8])}

    def run(at: np.ndarray) -> "tuple[np.ndarray, np.ndarray]":
        return at, 3 * at**-0.3 * np.exp(0.01 * rng.standard_normal(len(at)))

    at, y = run(x)
    before = fit(law, {"x": at}, y, objective="mse:log")
    [suggestion] = design.suggest(before, {"x": np.array([1e7])}, np.ones(1), far, 1)
    more, more_y = run(np.array([1e7]))
    after = fit(law, {"x": np.append(at, more)}, np.append(y, more_y), objective="mse:log")
    gradient = design.differentiate(after, far)
    assert design.interval_width(design.estimate_covariance(after), gradient) == pytest.approx(
        suggestion.width, rel=0.5
    )
    assert suggestion.width < suggestion.width_before / 1.5
