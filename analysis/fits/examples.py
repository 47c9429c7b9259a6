"""For each law, parameters of a size that is met in practice, and points made from them: for tests and benchmarks."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from analysis.fits.problem import Points
from analysis.laws import form
from analysis.laws.form import Law

Array = NDArray[np.float64]

TRUTH: dict[str, dict[str, float]] = {
    "power": {"b": 3.0, "c": -0.3},
    "power_offset": {"b": 3.0, "c": -0.3, "e": 0.5},
    "shifted_power": {"b": 3.0, "g": 1e-4, "c": 0.4},
    "m4": {"e_inf": 0.4, "e_0": 5.0, "beta": 3.0, "c": -0.4, "alpha": 0.7},
    "bnsl": {"a": 0.3, "b": 4.0, "c_0": 0.1, "c_1": 0.3, "d_1": 3e3, "f_1": 0.3},
    "bnsl_2": {"a": 0.3, "b": 4.0, "c_0": 0.05, "c_1": 0.4, "d_1": 300.0, "f_1": 0.2}
    | {"c_2": -0.3, "d_2": 4e4, "f_2": 0.2},
    "rectified": {"B": 30.0, "D_l": 40.0, "beta": 0.6, "E": 0.8},
    "additive": {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28},
    "multiplicative": {"E": 0.6, "A": 80.0, "alpha": 0.15, "beta": 0.2},
    "joint_rectified": {"E": 0.6, "B": 4e7, "D_l": 3e4, "alpha": 0.2, "beta": 0.6},
    "overtrained": {"E": 1.84, "a": 212.0, "b": 367.0, "eta": 0.136},
    "data_constrained": {"E": 1.87, "A": 521.0, "B": 1488.0, "alpha": 0.35, "beta": 0.35, "R_D": 15.4, "R_N": 5.3},
    "logistic": {"floor": 0.25, "ceiling": 0.9, "x_0": 2e3, "k": 0.8},
    "saturating_exponential": {"floor": 0.3, "rise": 0.5, "tau": 3e3},
    "saturating_exponential_2": {"floor": 0.3, "rise_1": 0.2, "tau_1": 200.0, "rise_2": 0.3, "tau_2": 2e4},
    "chained": {"floor": 0.25, "ceiling": 0.9, "L_0": 2.2, "k": 4.0},
}


def make_variables(law: Law) -> dict[str, Array]:
    """40 values of one variable; a grid of 240 points of two variables, of 160 points of three."""
    if law.variables == ("L",):
        return {"L": np.linspace(1.2, 4.0, 40)}
    if len(law.variables) == 1:
        return {law.variables[0]: np.geomspace(10, 1e6, 40)}
    if law.variables == ("N", "D", "U"):
        grid = np.meshgrid(np.geomspace(4e7, 1e10, 8), np.geomspace(1e9, 1e11, 4), [1, 2, 5, 15, 60], indexing="ij")
        n, unique, epochs = (axis.ravel() for axis in grid)
        return {"N": n, "D": unique * epochs, "U": unique}
    if law.variables == ("M", "C"):
        multiple, flops = np.meshgrid(np.geomspace(5, 640, 15), np.geomspace(1e17, 1e22, 16), indexing="ij")
        return {"M": multiple.ravel(), "C": flops.ravel()}
    first, second = np.meshgrid(np.geomspace(4e7, 1e10, 15), np.geomspace(1e9, 1e12, 16), indexing="ij")
    return dict(zip(law.variables, (first.ravel(), second.ravel()), strict=True))


def evaluate_truth(law: Law, variables: Mapping[str, Array]) -> Array:
    """The value of the law under its parameters in TRUTH."""
    return law.value(variables, {name: np.asarray(value) for name, value in TRUTH[law.name].items()})


def make_losses(name: str, noise: float = 0.0, seed: int = 0) -> Points:
    """Points of a law with normal errors of ln y; `noise` is their standard deviation."""
    law = form.find(name)
    x = make_variables(law)
    y = evaluate_truth(law, x)
    return Points(variables=x, y=y * np.exp(noise * np.random.default_rng(seed).standard_normal(len(y))))


def make_shares(name: str, tries: int, seed: int = 0) -> Points:
    """Points of a law of accuracy; each is the share of right answers among `tries`."""
    law = form.find(name)
    x = make_variables(law)
    y = np.random.default_rng(seed).binomial(tries, evaluate_truth(law, x)) / tries
    return Points(variables=x, y=y, weights=np.full(len(y), float(tries)))
