"""A fit as plain data: its numbers, their uncertainty, and its errors on points that it was not fitted to."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.fits import allocation, profile, selection, uncertainty
from analysis.fits.fit import Fit
from analysis.fits.influence import rank_influence
from analysis.fits.problem import Points
from analysis.fits.uncertainty import Member

Array = NDArray[np.float64]

WEAK = 0.3  # relative standard error from which a parameter also gets a profile interval


def resample(fit: Fit, clusters: Sequence[object] | None, n: int, seed: int) -> Array:
    """Searched parameters [n, p] of fits to n resamples."""
    return uncertainty.bootstrap(fit, n, seed, clusters) if n else np.empty((0, len(fit.searched)))


def describe_fit(fit: Fit, resamples: Array, clusters: Sequence[object] | None) -> dict[str, Any]:
    """The fit and, with resamples, the intervals of its parameters and the points of most influence."""
    has_resamples = len(resamples) > 0
    return {
        "law": fit.law.name,
        "parameters": fit.parameters,
        "standard_errors": {name: to_json(error) for name, error in fit.standard_errors.items()},
        "intervals": list_intervals(fit, resamples, clusters) if has_resamples else None,
        "objective": {"name": fit.objective, "value": fit.value},
        "converged": fit.converged,
        "at_bound": list(fit.at_bound),
        "starts": fit.starts,
        "starts_at_optimum": fit.starts_at_optimum,
        "minima": list(fit.minima),
        "condition_number": to_json(fit.condition_number),
        "identified": fit.identified,
        "warnings": list(fit.warnings),
        "n_fit": fit.n,
        "compute_optimal": describe_optimum(fit, resamples) if fit.law.name == "additive" else None,
        "influence": list_influence(fit, clusters) if has_resamples else None,
    }


def to_json(number: float) -> float | None:
    """The number, or None for one that JSON cannot represent."""
    return float(number) if np.isfinite(number) else None


def list_intervals(
    fit: Fit, resamples: Array, clusters: Sequence[object] | None
) -> dict[str, dict[str, list[float | None]]]:
    """By parameter: percentile and bias-corrected intervals, and a profile interval if the data hardly determine it."""
    n_clusters = len(set(clusters)) if clusters else None
    intervals = {
        name: {kind: [to_json(bound) for bound in bounds] for kind, bounds in kinds.items()}
        for name, kinds in uncertainty.intervals(fit, resamples, n_clusters=n_clusters).items()
    }
    for name, error in fit.standard_errors.items():
        if not error < WEAK * abs(fit.parameters[name]):
            intervals[name]["profile"] = list(profile.find_interval(fit, name))
    return intervals


def list_influence(fit: Fit, clusters: Sequence[object] | None) -> list[dict[str, Any]]:
    """The points or clusters of most influence."""
    return [
        {"left_out": one.left_out, "shift": to_json(one.shift), "parameters": one.parameters}
        for one in rank_influence(fit, clusters)
    ]


def describe_optimum(fit: Fit, resamples: Array) -> dict[str, Any] | None:
    """The powers of compute that N and D follow at the optimum; None if the law has no optimum."""
    if not all(fit.parameters[name] > 0 for name in allocation.FALLING):
        return None
    a, b = allocation.optimal_exponents(fit.parameters)
    exponents = [allocation.optimal_exponents(p)[0] for p in allocation.list_with_optimum(fit, resamples)]
    bounds = uncertainty.percentile_interval(np.array(exponents), uncertainty.LEVEL) if exponents else None
    return {"exponent_N": a, "exponent_D": b, "interval_N": bounds and list(bounds)}


def measure_errors(members: Sequence[Member], train: Points, test: Points | None, seed: int) -> dict[str, Any]:
    """Errors of ln y on fitted and on held-out points, and the share of held-out points within their 90 % interval."""
    errors = {"log_rmse_fit": log_rmse(members, train), "n_heldout": 0, "log_rmse_heldout": None, "coverage_90": None}
    if test is None:
        return errors
    errors |= {"n_heldout": len(test.y), "log_rmse_heldout": log_rmse(members, test)}
    if len(members[0].resamples):
        low, high = uncertainty.mixed_intervals(members, test.variables, tries=test.weights, seed=seed)
        errors["coverage_90"] = float(((low <= test.y) & (test.y <= high)).mean())
    return errors


def log_rmse(members: Sequence[Member], points: Points) -> float | None:
    """None without points, and if a y is not above 0."""
    if not len(points.y) or (points.y <= 0).any():
        return None
    return to_json(selection.log_rmse(selection.mix(members, points.variables), points.y))


def list_predictions(members: Sequence[Member], variables: Mapping[str, Array], seed: int) -> list[dict[str, Any]]:
    """The value of the law at each point; with resamples, the bounds of 90 % of new points."""
    values = selection.mix(members, variables)
    rows: list[dict[str, Any]] = [
        {name: float(x[i]) for name, x in variables.items()} | {"y": float(y)} for i, y in enumerate(values)
    ]
    if len(members[0].resamples):
        low, high = uncertainty.mixed_intervals(members, variables, seed=seed)
        rows = [row | {"low": to_json(a), "high": to_json(b)} for row, a, b in zip(rows, low, high, strict=True)]
    return rows
