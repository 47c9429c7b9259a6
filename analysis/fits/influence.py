"""Which points, or clusters of points, change the predictions most: the law is fitted without each of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.fits import solver
from analysis.fits.fit import Fit
from analysis.fits.problem import sort_groups, to_data_units, to_parameters
from analysis.fits.uncertainty import CHUNK, TOLERANCE, to_columns

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Influence:
    """The effect of leaving out a point or cluster."""

    left_out: object  # the row of the point, from 1, or the cluster
    parameters: dict[str, float]  # without it, in the units of the data
    shift: float  # the largest change of a prediction among the points, in ln y (in y if the objective is raw)


def rank_influence(fit: Fit, clusters: Sequence[object] | None = None, most: int | None = 5) -> list[Influence]:
    """The `most` influential points or clusters, the strongest first; all of them if None.

    Influence is measured on the predictions at the fit's own points, because a change of a parameter alone does not
    show whether it matters.
    """
    names, of = list_groups(fit, clusters)
    batches = np.array_split(np.arange(len(names)), count_batches(len(names)))
    ends = np.concatenate([refit(fit, of[None, :] != batch[:, None]) for batch in batches])
    shifts = np.abs(predict(fit, ends) - predict(fit, fit.searched[None])).max(1)
    strongest = np.argsort(-shifts)[:most]
    return [
        Influence(
            left_out=names[i],
            parameters=to_data_units(fit.problem, sort_groups(fit.law, ends[i])),
            shift=float(shifts[i]),
        )
        for i in strongest
    ]


def count_batches(n: int) -> int:
    """The number of batches of fits: bounds the memory."""
    return -(-n // CHUNK)


def refit(fit: Fit, keep: NDArray[np.bool_]) -> Array:
    """Searched parameters [fits, p] of fits to the points that each one keeps [fits, n]."""
    problem = fit.problem
    start = np.repeat(fit.searched[None], len(keep), axis=0)
    weights = problem.weights * keep
    ends = solver.minimise(
        problem.residuals, start, problem.low, problem.high, weights, problem.objective.delta, TOLERANCE
    )
    return ends.parameters


def list_groups(fit: Fit, clusters: Sequence[object] | None) -> tuple[list[object], NDArray[np.intp]]:
    """The names of what is left out, one at a time, and the group of each point."""
    if clusters is None:
        return list(range(1, fit.n + 1)), np.arange(fit.n)
    names = list(dict.fromkeys(clusters))
    place = {name: i for i, name in enumerate(names)}
    return names, np.array([place[name] for name in clusters])


def predict(fit: Fit, searched: Array) -> Array:
    """ln y, or y, at the points of the fit [fits, n]."""
    problem = fit.problem
    columns: Mapping[str, Array] = {v: x[None] for v, x in problem.variables.items()}
    with np.errstate(all="ignore"):
        value = fit.law.value(columns, to_columns(fit.law, to_parameters(fit.law, searched)))
    return np.log(np.maximum(value, 1e-300)) if problem.objective.log else value * problem.y_centre
