"""A fit as plain data: its numbers, how sure they are, and how it did where it was not fitted."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.fits import allocation, profile, selection, uncertainty
from analysis.fits.fit import Fit
from analysis.fits.influence import influence
from analysis.fits.problem import Points
from analysis.fits.uncertainty import Member

Array = NDArray[np.float64]

WEAK = 0.3  # relative standard error from which a parameter's interval is also told by its profile


def draw(found: Fit, clusters: Sequence[object] | None, n: int, seed: int) -> Array:
    """Bootstrap draws [n, p] of the searched parameters."""
    return uncertainty.bootstrap(found, n, seed, clusters) if n else np.empty((0, len(found.searched)))


def describe(found: Fit, draws: Array, clusters: Sequence[object] | None) -> dict[str, Any]:
    """The fit, and with draws the intervals of its parameters and the points that move it most."""
    sure = len(draws) > 0
    return {
        "law": found.law.name,
        "parameters": found.parameters,
        "standard_errors": {name: finite(error) for name, error in found.standard_errors.items()},
        "intervals": intervals(found, draws, clusters) if sure else None,
        "objective": {"name": found.objective, "value": found.value},
        "converged": found.converged,
        "at_bound": list(found.at_bound),
        "starts": found.starts,
        "starts_at_optimum": found.starts_at_optimum,
        "minima": list(found.minima),
        "condition_number": finite(found.condition_number),
        "identified": found.identified,
        "warnings": list(found.warnings),
        "n_fit": found.n,
        "compute_optimal": compute_optimal(found, draws) if found.law.name == "additive" else None,
        "influence": influential(found, clusters) if sure else None,
    }


def finite(number: float) -> float | None:
    """The number, or None where JSON has none for it."""
    return float(number) if np.isfinite(number) else None


def intervals(found: Fit, draws: Array, clusters: Sequence[object] | None) -> dict[str, dict[str, list[float | None]]]:
    """By parameter: percentile and bias-corrected, and by its profile where the data hardly tell it."""
    n_clusters = len(set(clusters)) if clusters else None
    told = {
        name: {kind: [finite(bound) for bound in bounds] for kind, bounds in kinds.items()}
        for name, kinds in uncertainty.intervals(found, draws, n_clusters=n_clusters).items()
    }
    for name, error in found.standard_errors.items():
        if not error < WEAK * abs(found.parameters[name]):
            told[name]["profile"] = list(profile.interval(found, name))
    return told


def influential(found: Fit, clusters: Sequence[object] | None) -> list[dict[str, Any]]:
    """The points or clusters that move the answer most."""
    return [
        {"left_out": one.left_out, "shift": finite(one.shift), "parameters": one.parameters}
        for one in influence(found, clusters)
    ]


def compute_optimal(found: Fit, draws: Array) -> dict[str, Any] | None:
    """The powers of compute that N and D follow at the optimum; None if the law has none."""
    if not all(found.parameters[name] > 0 for name in allocation.FALLING):
        return None
    a, b = allocation.exponents(found.parameters)
    rows = [allocation.exponents(p)[0] for p in allocation.drawn(found, draws)]
    bounds = uncertainty.percentile(np.array(rows), uncertainty.LEVEL) if rows else None
    return {"exponent_N": a, "exponent_D": b, "interval_N": bounds and list(bounds)}


def errors(members: Sequence[Member], kept: Points, hidden: Points | None, seed: int) -> dict[str, Any]:
    """Errors of ln y where the law was fitted and where it was not, and how often the 90 % interval held the latter."""
    found = {"log_rmse_fit": log_rmse(members, kept), "n_heldout": 0, "log_rmse_heldout": None, "coverage_90": None}
    if hidden is None:
        return found
    found |= {"n_heldout": len(hidden.y), "log_rmse_heldout": log_rmse(members, hidden)}
    if len(members[0].draws):
        low, high = uncertainty.mixed_intervals(members, hidden.variables, tries=hidden.weights, seed=seed)
        found["coverage_90"] = float(((low <= hidden.y) & (hidden.y <= high)).mean())
    return found


def log_rmse(members: Sequence[Member], points: Points) -> float | None:
    """None without points and where a y is not above 0."""
    if not len(points.y) or (points.y <= 0).any():
        return None
    return finite(selection.log_rmse(selection.mix(members, points.variables), points.y))


def predictions(members: Sequence[Member], variables: Mapping[str, Array], seed: int) -> list[dict[str, Any]]:
    """The law's value at each point; with draws, where 90 % of new points would lie."""
    values = selection.mix(members, variables)
    rows: list[dict[str, Any]] = [
        {name: float(x[i]) for name, x in variables.items()} | {"y": float(y)} for i, y in enumerate(values)
    ]
    if len(members[0].draws):
        low, high = uncertainty.mixed_intervals(members, variables, seed=seed)
        rows = [row | {"low": finite(a), "high": finite(b)} for row, a, b in zip(rows, low, high, strict=True)]
    return rows
