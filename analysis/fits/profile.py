"""Profile likelihood: a parameter is fixed at a value, all others are fitted again, and the likelihood is compared.

For a parameter that the data hardly determine, standard errors and resamples mislead: their intervals are symmetric, or
end where the search happened to end. The profile shows on which sides the data bound the parameter at all.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import f as f_distribution

from analysis.fits import solver
from analysis.fits.fit import Fit, estimate_variance
from analysis.fits.problem import Problem, data_unit, evaluate_power, to_parameters

Array = NDArray[np.float64]

LEVEL = 0.90
TOLERANCE = 1e-9  # relative, of the objective
FURTHEST = 1e4  # a parameter is followed to this factor of its estimate
FIRST = 0.02  # step in ln
HALVINGS = 12  # of the last step: to a 4000th of it


def find_interval(fit: Fit, name: str, level: float = LEVEL) -> tuple[float | None, float | None]:
    """The profile interval of a parameter, in the units of the data.

    None on a side where the data set no bound within a factor of 10,000. The likelihood ratio is that of an M-estimator
    (Heritier and Ronchetti 1994); F(1, n − p) accounts for the unknown variance.
    """
    loss = make_profile(fit, name)
    threshold = float(f_distribution.ppf(level, 1, max(fit.n - len(fit.law.parameters), 1)))
    below, above = (find_crossing(loss, make_path(fit, name, side), threshold) for side in (-1, 1))
    return below, above


def make_profile(fit: Fit, name: str) -> Callable[[float], float]:
    """A function from a value of the parameter to its likelihood ratio, which is 0 at the estimate."""
    problem = fit.problem
    r = problem.residuals(fit.searched[None])[0][0]
    lowest = float(solver.sum_losses(r[None], problem.weights, problem.objective.delta)[0])
    unit = loss_unit(fit, r)
    best = np.delete(fit.searched, fit.law.names.index(name))
    last = best

    def loss(value: float) -> float:
        nonlocal last
        rest = fix_parameter(problem, name, value)
        starts = np.stack([best, last])
        ends = solver.minimise(
            rest.residuals, starts, rest.low, rest.high, rest.weights, rest.objective.delta, TOLERANCE
        )
        nearest = int(np.argmin(ends.objective))
        if np.isfinite(ends.objective[nearest]):
            last = ends.parameters[nearest]
        return 2 * (float(ends.objective[nearest]) - lowest) / unit

    return loss


def loss_unit(fit: Fit, r: Array) -> float:
    """E ψ² / E ψ′ of the residuals: a difference of the objective, over this, is a difference of ln likelihood."""
    problem = fit.problem
    if problem.objective.binomial:
        return 1.0
    n_parameters = len(fit.law.parameters)
    delta = problem.objective.delta
    slope = np.clip(r, -delta, delta) * np.sqrt(problem.weights)
    mean_square = float((slope**2).sum() / max(len(r) - n_parameters, 1))
    return float(np.sqrt(mean_square * estimate_variance(r, problem, n_parameters)))


def find_crossing(loss: Callable[[float], float], path: Callable[[float], float], threshold: float) -> float | None:
    """The value on a path from the estimate at which the loss crosses the threshold; steps double until it does."""
    inside, outside = 0.0, FIRST
    while loss(path(outside)) <= threshold:
        inside, outside = outside, 2 * outside
        if outside > np.log(FURTHEST):
            return None
    for _ in range(HALVINGS):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if loss(path(middle)) <= threshold else (inside, middle)
    return path((inside + outside) / 2)


def make_path(fit: Fit, name: str, side: int) -> Callable[[float], float]:
    """Values of the parameter by their distance from the estimate, in ln; from 0, in e^t − 1 of the data's unit."""
    estimate = fit.parameters[name]
    if estimate:
        return lambda t: float(estimate * np.exp(side * t * np.sign(estimate)))
    parameter = fit.law.parameters[fit.law.names.index(name)]
    centred = dict(zip(fit.law.names, to_parameters(fit.law, fit.searched).tolist(), strict=True))
    unit = data_unit(fit.problem, parameter, centred)
    return lambda t: max(side * unit * float(np.expm1(t)), 0.0) if parameter.low == 0 else side * unit * t


def fix_parameter(problem: Problem, name: str, value: float) -> Problem:
    """The problem with one parameter fixed at a value in the units of the data."""
    law = problem.law
    others = tuple(p for p in law.parameters if p.name != name)

    def function(**arguments: Any) -> tuple[Any, list[Any]]:
        centred, by_other = centre_fixed(problem, name, value, arguments)
        variables = {v: arguments[v] for v in law.variables}
        parameters = {p.name: arguments[p.name] for p in others} | {name: centred}
        result, gradient = law.value_and_gradient(variables, parameters)
        parts = {n: gradient[..., i] for i, n in enumerate(law.names)}
        return result, [parts[p.name] + parts[name] * by_other.get(p.name, 0.0) for p in others]

    return replace(problem, law=replace(law, parameters=others, function=function, interchangeable=()))


def centre_fixed(problem: Problem, name: str, value: float, arguments: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The fixed parameter in centred units, and its derivatives by the other parameters that its unit depends on."""
    law = problem.law
    carries = next(p for p in law.parameters if p.name == name).carries
    centres = {**problem.centres, "y": problem.y_centre}
    zero = dict.fromkeys(law.names, 0.0) | {name: value}
    by_name = {
        p.name: sum(np.log(centres[v]) * coefficient(c, p.name, zero) for v, c in carries.items())
        for p in law.parameters
        if p.name != name
    }
    constant = sum(np.log(centres[v]) * evaluate_power(c, zero) for v, c in carries.items())
    centred = value * np.exp(constant + sum(slope * arguments[n] for n, slope in by_name.items()))
    return centred, {n: centred * d for n, d in by_name.items() if d}


def coefficient(power: str, name: str, zero: Mapping[str, float]) -> float:
    """The coefficient of a parameter in a power: 1, −1 or 0."""
    return evaluate_power(power, {**zero, name: 1.0}) - evaluate_power(power, {**zero, name: 0.0})
