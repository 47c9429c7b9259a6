"""How far a parameter can go before the fit suffers: its likelihood where all others are fitted anew at each value.

For a parameter that the data hardly tell, standard errors and resampling mislead: their intervals are symmetric or end
where the search happened to. The profile says on which sides the data bound it at all.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import f as f_distribution

from analysis.fits import solver
from analysis.fits.fit import Fit, spread
from analysis.fits.problem import Problem, factor, power, to_parameters

Array = NDArray[np.float64]

LEVEL = 0.90
TOLERANCE = 1e-9  # relative, of the objective
FURTHEST = 1e4  # a parameter is followed to this factor of its estimate
FIRST = 0.02  # step in ln
HALVINGS = 12  # of the last step: to a 4000th of it


def interval(fit: Fit, name: str, level: float = LEVEL) -> tuple[float | None, float | None]:
    """Where the profile likelihood of a parameter, in the units of the data, has fallen by what `level` allows.

    None on a side where the data set no bound within a factor of 10,000. The ratio of likelihoods is that of an
    M-estimator (Heritier and Ronchetti 1994), against F(1, n − p) for the unknown spread.
    """
    loss = profile(fit, name)
    threshold = float(f_distribution.ppf(level, 1, max(fit.n - len(fit.law.parameters), 1)))
    below, above = (edge(loss, away(fit, name, side), threshold) for side in (-1, 1))
    return below, above


def profile(fit: Fit, name: str) -> Callable[[float], float]:
    """The likelihood ratio, 0 at the estimate, of a value of the parameter."""
    problem = fit.problem
    r = problem.residuals(fit.searched[None])[0][0]
    lowest = float(solver.total(r[None], problem.weights, problem.objective.delta)[0])
    unit = scale_of_losses(fit, r)
    index = fit.law.names.index(name)
    best = np.delete(fit.searched, index)
    last = best

    def loss(value: float) -> float:
        nonlocal last
        rest = without(problem, name, value)
        starts = np.stack([best, last])
        found = solver.minimise(
            rest.residuals, starts, rest.low, rest.high, rest.weights, rest.objective.delta, TOLERANCE
        )
        nearest = int(np.argmin(found.objective))
        if np.isfinite(found.objective[nearest]):
            last = found.parameters[nearest]
        return 2 * (float(found.objective[nearest]) - lowest) / unit

    return loss


def scale_of_losses(fit: Fit, r: Array) -> float:
    """E ψ² / E ψ′ of the residuals: what a unit of the objective is in likelihood."""
    problem = fit.problem
    if problem.objective.binomial:
        return 1.0
    n_parameters = len(fit.law.parameters)
    delta = problem.objective.delta
    slope = np.clip(r, -delta, delta) * np.sqrt(problem.weights)
    mean_square = float((slope**2).sum() / max(len(r) - n_parameters, 1))
    return float(np.sqrt(mean_square * spread(r, problem, n_parameters)))


def edge(loss: Callable[[float], float], path: Callable[[float], float], threshold: float) -> float | None:
    """The value on a path away from the estimate where the loss crosses the threshold; steps double until it does."""
    inside, outside = 0.0, FIRST
    while loss(path(outside)) <= threshold:
        inside, outside = outside, 2 * outside
        if outside > np.log(FURTHEST):
            return None
    for _ in range(HALVINGS):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if loss(path(middle)) <= threshold else (inside, middle)
    return path((inside + outside) / 2)


def away(fit: Fit, name: str, side: int) -> Callable[[float], float]:
    """Values of the parameter by how far they are from its estimate: in ln, or from 0 in e^t − 1 of a natural unit."""
    estimate = fit.parameters[name]
    if estimate:
        return lambda t: float(estimate * np.exp(side * t * np.sign(estimate)))
    parameter = fit.law.parameters[fit.law.names.index(name)]
    centred = dict(zip(fit.law.names, to_parameters(fit.law, fit.searched).tolist(), strict=True))
    unit = factor(fit.problem, parameter, centred)
    return lambda t: max(side * unit * float(np.expm1(t)), 0.0) if parameter.low == 0 else side * unit * t


def without(problem: Problem, name: str, value: float) -> Problem:
    """The problem with one parameter held at a value in the units of the data."""
    law = problem.law
    parameter = next(p for p in law.parameters if p.name == name)
    others = tuple(p for p in law.parameters if p.name != name)

    def held(given: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        """The parameter in centred units, and its derivatives by the others that it is carried with."""
        centres = {**problem.centres, "y": problem.y_centre}
        zero = dict.fromkeys(law.names, 0.0) | {name: value}
        by_name = {
            p.name: sum(np.log(centres[v]) * slope(c, p.name, zero) for v, c in parameter.carries.items())
            for p in others
        }
        constant = sum(np.log(centres[v]) * power(c, zero) for v, c in parameter.carries.items())
        centred = value * np.exp(constant + sum(by_name[p.name] * given[p.name] for p in others))
        return centred, {n: centred * d for n, d in by_name.items() if d}

    def function(**given: Any) -> tuple[Any, list[Any]]:
        centred, by_other = held(given)
        variables = {v: given[v] for v in law.variables}
        parameters = {p.name: given[p.name] for p in others} | {name: centred}
        found, gradient = law.value_and_gradient(variables, parameters)
        parts = {n: gradient[..., i] for i, n in enumerate(law.names)}
        return found, [parts[p.name] + parts[name] * by_other.get(p.name, 0.0) for p in others]

    return replace(problem, law=replace(law, parameters=others, function=function, interchangeable=()))


def slope(carried: str, name: str, zero: Mapping[str, float]) -> float:
    """How often a parameter stands in a carried power: 1, −1 or 0."""
    return power(carried, {**zero, name: 1.0}) - power(carried, {**zero, name: 0.0})
