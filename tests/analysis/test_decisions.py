"""What a fit is for: how to spend compute, which trial to run next, accuracy of a model that was never trained."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from analysis.fits import allocation, design, examples
from analysis.fits.fit import fit
from analysis.laws import form


def test_the_best_allocation_has_the_lowest_loss_of_its_compute() -> None:
    truth = examples.TRUE["additive"]
    law = form.find("additive")

    def loss(log_n: float) -> float:
        n = np.exp(log_n)
        return float(law.value({"N": n, "D": 1e21 / 6 / n}, truth))

    searched = minimize_scalar(loss, bounds=(np.log(1e7), np.log(1e12)), method="bounded", options={"xatol": 1e-9})
    n, d = allocation.best(truth, 1e21)
    assert n == pytest.approx(np.exp(searched.x), rel=1e-4)
    assert 6 * n * d == pytest.approx(1e21)


def test_suggested_trials_are_those_that_tell_most_for_their_cost() -> None:
    made = examples.losses("power", 0.01)
    found = fit(form.find("power"), made.variables, made.y, objective="mse:log")
    candidates = {"x": np.array([1e2, 1e3, 1e7])}
    far = {"x": np.array([1e8])}
    alike = design.suggest(found, candidates, np.ones(3), far, 3)
    assert [one.row for one in alike] == [2, 0, 1]  # the nearest to what is asked, then the one at the other end
    assert [one.width_before for one in alike[1:]] == [one.width for one in alike[:-1]]
    [affordable] = design.suggest(found, candidates, np.array([1.0, 1.0, 1e6]), far, 1)
    assert affordable.row == 0


def test_a_suggested_trial_shrinks_the_interval_as_much_as_was_said() -> None:
    """Said before it runs, by the derivatives; measured with it, by the standard error of the prediction."""
    rng = np.random.default_rng(0)
    x = np.geomspace(10, 1e4, 12)
    law, far = form.find("power"), {"x": np.array([1e8])}

    def run(at: np.ndarray) -> "tuple[np.ndarray, np.ndarray]":
        return at, 3 * at**-0.3 * np.exp(0.01 * rng.standard_normal(len(at)))

    at, y = run(x)
    before = fit(law, {"x": at}, y, objective="mse:log")
    [said] = design.suggest(before, {"x": np.array([1e7])}, np.ones(1), far, 1)
    more, its_y = run(np.array([1e7]))
    after = fit(law, {"x": np.append(at, more)}, np.append(y, its_y), objective="mse:log")
    gradient = design.gradients(after, far)
    assert design.width(design.covariance_of(after), gradient) == pytest.approx(said.width, rel=0.5)
    assert said.width < said.width_before / 1.5
