"""Which points, or clusters of points, move the answer most: the fit without each of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.fits import solver
from analysis.fits.fit import Fit
from analysis.fits.problem import in_order, to_data_units, to_parameters
from analysis.fits.uncertainty import CHUNK, TOLERANCE, by_name

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Influence:
    """What leaving out a point or cluster does."""

    left_out: object  # the point's row, from 1, or the cluster
    parameters: dict[str, float]  # without it, in the units of the data
    shift: float  # of the prediction where it shifts most among the points, in ln y (of y if the objective is raw)


def influence(fit: Fit, clusters: Sequence[object] | None = None, most: int | None = 5) -> list[Influence]:
    """The `most` influential points or clusters, the strongest first; all if None.

    The predictions are those at the fit's own points: nothing about a parameter alone says whether it matters.
    """
    names, of = groups(fit, clusters)
    batches = np.array_split(np.arange(len(names)), pieces(len(names)))
    ends = np.concatenate([without(fit, of[None, :] != left_out[:, None]) for left_out in batches])
    shifts = np.abs(predictions(fit, ends) - predictions(fit, fit.searched[None])).max(1)
    strongest = np.argsort(-shifts)[:most]
    return [
        Influence(
            left_out=names[i],
            parameters=to_data_units(fit.problem, in_order(fit.law, ends[i])),
            shift=float(shifts[i]),
        )
        for i in strongest
    ]


def pieces(n: int) -> int:
    """How many batches of fits: bounds the memory."""
    return -(-n // CHUNK)


def without(fit: Fit, kept: NDArray[np.bool_]) -> Array:
    """Searched parameters [fits, p] of fits to the points that each keeps [fits, n]."""
    problem = fit.problem
    start = np.repeat(fit.searched[None], len(kept), axis=0)
    weights = problem.weights * kept
    ends = solver.minimise(
        problem.residuals, start, problem.low, problem.high, weights, problem.objective.delta, TOLERANCE
    )
    return ends.parameters


def groups(fit: Fit, clusters: Sequence[object] | None) -> tuple[list[object], NDArray[np.intp]]:
    """What is left out in turn, and to which each point belongs."""
    if clusters is None:
        return list(range(1, fit.n + 1)), np.arange(fit.n)
    names = list(dict.fromkeys(clusters))
    place = {name: i for i, name in enumerate(names)}
    return names, np.array([place[name] for name in clusters])


def predictions(fit: Fit, searched: Array) -> Array:
    """ln y, or y, at the fit's points [fits, n]."""
    problem = fit.problem
    given: Mapping[str, Array] = {v: x[None] for v, x in problem.variables.items()}
    with np.errstate(all="ignore"):
        value = fit.law.value(given, by_name(fit.law, to_parameters(fit.law, searched)))
    return np.log(np.maximum(value, 1e-300)) if problem.objective.log else value * problem.y_centre
