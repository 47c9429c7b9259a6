"""What a fit is for: how to spend compute, which trial to run next, accuracy of a model that was never trained."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from analysis.errors import FitError
from analysis.fits import allocation, chain, design, examples, uncertainty
from analysis.fits.fit import fit, fit_points
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


def test_allocations_come_with_intervals_that_hold_the_truth() -> None:
    found = fit_points(form.find("additive"), examples.losses("additive", 0.005), objective="mse:log")
    [one] = allocation.allocate(found, uncertainty.bootstrap(found, 200), [1e21])
    n, _ = allocation.best(examples.TRUE["additive"], 1e21)
    assert one.n_interval is not None
    low, high = one.n_interval
    assert low < one.n < high
    assert low < n < high


def test_a_law_without_an_optimum_is_refused() -> None:
    made = examples.losses("additive")
    flat = fit(form.find("additive"), made.variables, 1.7 + 400 * made.variables["N"] ** -0.34)
    with pytest.raises(FitError, match="is 0"):
        allocation.allocate(flat, np.empty((0, 5)), [1e21])


def test_isoflop_parabolas_tell_how_wrong_they_are() -> None:
    """Sizes to one side of the optimum only: the exponent is off, and by how much is told."""
    truth, law = examples.TRUE["additive"], form.find("additive")
    c, ratio = (a.ravel() for a in np.meshgrid(np.geomspace(1e18, 1e22, 5), np.geomspace(0.5, 30, 9), indexing="ij"))
    n = ratio * np.array([allocation.best(truth, x)[0] for x in c])
    d = c / 6 / n
    found = allocation.isoflop(n, d, law.value({"N": n, "D": d}, truth), draws=50)
    assert found.flops == pytest.approx(np.geomspace(1e18, 1e22, 5), rel=1e-6)
    true_exponent, _ = allocation.exponents(truth)
    assert found.exponent - found.bias == pytest.approx(true_exponent, abs=1e-6)
    assert found.misplaced != pytest.approx(1, abs=0.02)
    assert "misplace" in found.warnings[0]


def test_suggested_trials_are_those_that_tell_most_for_their_cost() -> None:
    made = examples.losses("power", 0.01)
    found = fit(form.find("power"), made.variables, made.y, objective="mse:log")
    candidates = {"x": np.array([1e2, 1e3, 1e7])}
    far = {"x": np.array([1e8])}
    cheap = design.suggest(found, candidates, np.ones(3), far, 1)
    assert cheap[0].row == 2  # the one that is nearest to what is asked
    assert cheap[0].width < cheap[0].width_before
    dear = design.suggest(found, candidates, np.array([1.0, 1.0, 1e6]), far, 1)
    assert dear[0].row != 2


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


def test_a_chain_gives_the_accuracy_of_a_model_that_was_never_trained() -> None:
    losses = examples.losses("additive", 0.003)
    loss = fit_points(form.find("additive"), losses, objective="mse:log")
    step = form.find("chained")
    at = np.linspace(1.9, 3.2, 40)
    truth = examples.TRUE["chained"]
    share = np.random.default_rng(0).binomial(500, step.value({"L": at}, truth)) / 500
    accuracy = fit(step, {"L": at}, share, objective="binomial", weights=np.full(40, 500.0))
    large = {"N": np.array([7e10]), "D": np.array([2e12])}
    wanted = step.value({"L": form.find("additive").value(large, examples.TRUE["additive"])}, truth)
    assert chain.predict(loss, accuracy, large) == pytest.approx(wanted, abs=0.03)
    low, high = chain.interval(
        loss, uncertainty.bootstrap(loss, 100), accuracy, uncertainty.bootstrap(accuracy, 100, 1), large
    )
    assert low < wanted < high
