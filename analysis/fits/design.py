"""Which trials to run next: those that shrink the interval of a prediction most for what they cost."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from analysis.errors import FitError
from analysis.fits.fit import Fit, spread
from analysis.fits.uncertainty import LEVEL

Array = NDArray[np.float64]

WIDEST = (
    10.0  # prior standard deviation of the searched parameters, so that a design exists if the data leave some open
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Suggestion:
    """A trial to run. `width`: of the 90 % interval of the law at the targets once it and those before it have run, as
    a share of y (in its units if the objective is raw), mean over the targets."""

    row: int  # of the candidates, from 0
    cost: float
    width_before: float
    width: float


def suggest(
    fit: Fit, candidates: Mapping[str, Array], costs: Array, targets: Mapping[str, Array], k: int
) -> list[Suggestion]:
    """The k candidates [m] that shrink the interval at the targets [t] most for their cost, in the order of their use.

    Chosen one after the other, each by how much it shrinks ln of the interval's width a unit of cost (a greedy
    V-optimal design, Atkinson, Donev and Tobias 2007, chapter 10), under the derivatives of the fit and one spread for
    all points. A candidate can be taken once. Raises FitError on costs that are not above 0 and on too few candidates.
    """
    check(costs, k)
    derivatives, at = gradients(fit, candidates), gradients(fit, targets)
    covariance = covariance_of(fit)
    variance = spread_of(fit)
    left, found = list(range(len(costs))), []
    for _ in range(k):
        before = width(covariance, at)
        after = [added(covariance, derivatives[i], variance) for i in left]
        widths = np.array([width(c, at) for c in after])
        best = int(np.argmax(np.log(before / widths) / costs[left]))
        covariance = after[best]
        row = left.pop(best)
        found.append(Suggestion(row=row, cost=float(costs[row]), width_before=before, width=float(widths[best])))
    return found


def check(costs: Array, k: int) -> None:
    """Raises FitError on what no design can be made of."""
    if not 1 <= k <= len(costs):
        raise FitError(f"{k} trials cannot be chosen among {len(costs)} candidates")
    if len(bad := np.flatnonzero(~(np.isfinite(costs) & (costs > 0)))):
        raise FitError(f"the cost of candidate {bad[0] + 1} is {costs[bad[0]]:g}; it has to be above 0")


def gradients(fit: Fit, variables: Mapping[str, Array]) -> Array:
    """Derivatives [m, p] of ln y, or of y or the deviance residual, by the searched parameters."""
    problem = fit.problem
    given = {v: np.asarray(variables[v], dtype=np.float64) / problem.centres[v] for v in fit.law.variables}
    _, jac = problem.residuals_at(given, fit.predict(variables) / problem.y_centre, fit.searched[None])
    return np.asarray(jac[0])


def spread_of(fit: Fit) -> float:
    """The variance of one new point: that of the residuals, or of a share of the median number of tries."""
    problem = fit.problem
    if problem.objective.binomial:
        return 1 / float(np.median(problem.weights))
    r = problem.residuals(fit.searched[None])[0][0]
    return spread(r, problem, len(fit.searched)) * float(np.exp(np.log(problem.errors).mean())) ** 2


def covariance_of(fit: Fit) -> Array:
    """Of the searched parameters [p, p], with a wide prior so that it exists where the data leave some open."""
    problem = fit.problem
    r, jac = (part[0] for part in problem.residuals(fit.searched[None]))
    free = (fit.searched > problem.low) & (fit.searched < problem.high)
    columns = jac * np.sqrt(problem.weights)[:, None] * free
    information = columns.T @ columns / spread(r, problem, int(free.sum())) + np.eye(len(free)) / WIDEST**2
    return np.asarray(np.linalg.inv(information) * free * free[:, None])


def added(covariance: Array, derivative: Array, variance: float) -> Array:
    """The covariance once a point with this derivative [p] is known (Sherman and Morrison)."""
    moved = covariance @ derivative
    return np.asarray(covariance - np.outer(moved, moved) / (variance + derivative @ moved))


def width(covariance: Array, at: Array) -> float:
    """Mean width of the law's 90 % interval at the targets with derivatives [t, p]."""
    deviations = np.sqrt(np.maximum(np.einsum("tp,pq,tq->t", at, covariance, at), 1e-300))
    return float(2 * norm.ppf((1 + LEVEL) / 2) * deviations.mean())
