"""Which trials to run next: those that shrink the interval of a prediction most per unit of cost."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from analysis.errors import FitError
from analysis.fits.fit import Fit, estimate_variance
from analysis.fits.uncertainty import LEVEL

Array = NDArray[np.float64]

PRIOR = 10.0  # standard deviation of the searched parameters; with it a design exists if the data leave some open


@dataclass(frozen=True, kw_only=True, slots=True)
class Suggestion:
    """A trial to run. `width`: of the law's 90 % interval at the targets, after this trial and those before it.

    As a share of y (in units of y if the objective is raw), mean over the targets.
    """

    row: int  # of the candidates, from 0
    cost: float
    width_before: float
    width: float


def suggest(
    fit: Fit, candidates: Mapping[str, Array], costs: Array, targets: Mapping[str, Array], k: int
) -> list[Suggestion]:
    """The k candidates [m] that shrink the interval at the targets [t] most per cost, the best first.

    They are chosen one after the other, each by how much it shrinks ln of the interval's width per unit of cost (a
    greedy V-optimal design, Atkinson, Donev and Tobias 2007, chapter 10), with the derivatives of the fit and one
    variance for all points. Each candidate is chosen at most once. Raises FitError on costs that are not above 0 and on
    too few candidates.
    """
    check_costs(costs, k)
    derivatives, at = differentiate(fit, candidates), differentiate(fit, targets)
    covariance, variance = estimate_covariance(fit), point_variance(fit)
    rows, suggestions = list(range(len(costs))), []
    for _ in range(k):
        before = interval_width(covariance, at)
        after = [add_point(covariance, derivatives[i], variance) for i in rows]
        widths = np.array([interval_width(c, at) for c in after])
        best = int(np.argmax(np.log(before / widths) / costs[rows]))
        covariance, row = after[best], rows.pop(best)
        suggestions.append(Suggestion(row=row, cost=float(costs[row]), width_before=before, width=float(widths[best])))
    return suggestions


def check_costs(costs: Array, k: int) -> None:
    """Raises FitError if k trials cannot be chosen by these costs."""
    if not 1 <= k <= len(costs):
        raise FitError(f"{k} trials cannot be chosen among {len(costs)} candidates")
    if len(bad := np.flatnonzero(~(np.isfinite(costs) & (costs > 0)))):
        raise FitError(f"the cost of candidate {bad[0] + 1} is {costs[bad[0]]:g}; it has to be above 0")


def differentiate(fit: Fit, variables: Mapping[str, Array]) -> Array:
    """Derivatives [m, p] of ln y, or of y or the deviance residual, by the searched parameters."""
    problem = fit.problem
    centred = {v: np.asarray(variables[v], dtype=np.float64) / problem.centres[v] for v in fit.law.variables}
    _, jac = problem.residuals_at(centred, fit.predict(variables) / problem.y_centre, fit.searched[None])
    return np.asarray(jac[0])


def point_variance(fit: Fit) -> float:
    """The variance of one new point: that of the residuals, or of a share of the median number of tries."""
    problem = fit.problem
    if problem.objective.binomial:
        return 1 / float(np.median(problem.weights))
    r = problem.residuals(fit.searched[None])[0][0]
    return estimate_variance(r, problem, len(fit.searched)) * float(np.exp(np.log(problem.errors).mean())) ** 2


def estimate_covariance(fit: Fit) -> Array:
    """The covariance [p, p] of the searched parameters, with a wide prior for what the data leave open."""
    problem = fit.problem
    r, jac = (part[0] for part in problem.residuals(fit.searched[None]))
    free = (fit.searched > problem.low) & (fit.searched < problem.high)
    columns = jac * np.sqrt(problem.weights)[:, None] * free
    information = columns.T @ columns / estimate_variance(r, problem, int(free.sum())) + np.eye(len(free)) / PRIOR**2
    return np.asarray(np.linalg.inv(information) * free * free[:, None])


def add_point(covariance: Array, derivative: Array, variance: float) -> Array:
    """The covariance once a point with this derivative [p] is known (Sherman and Morrison)."""
    direction = covariance @ derivative
    return np.asarray(covariance - np.outer(direction, direction) / (variance + derivative @ direction))


def interval_width(covariance: Array, at: Array) -> float:
    """Mean width of the law's 90 % interval at the targets with derivatives [t, p]."""
    deviations = np.sqrt(np.maximum(np.einsum("tp,pq,tq->t", at, covariance, at), 1e-300))
    return float(2 * norm.ppf((1 + LEVEL) / 2) * deviations.mean())
