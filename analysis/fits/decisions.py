"""What a fit is used for, as plain data: which trial to run next, and how to spend compute."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.fits import allocation, design
from analysis.fits.fit import Fit
from analysis.fits.problem import Points
from analysis.fits.record import finite
from analysis.fits.request import Request, Suggest
from analysis.fits.table import ROW, points, variables

Array = NDArray[np.float64]


def decide(estimate: Fit, resamples: Array, rows: pl.DataFrame, request: Request) -> dict[str, Any]:
    """The parts of the record that the request asks for beyond the fit.

    `resamples`: [resamples, p], or none; `rows`: those that the law was fitted to.
    """
    parts: dict[str, Any] = {}
    if request.suggest:
        parts["suggestions"] = suggest(estimate, request.suggest, request)
    if request.allocate:
        parts["allocations"] = allocate(estimate, resamples, request.allocate)
    if request.isoflop:
        parts["isoflop"] = fit_parabolas(points(rows, request), request)
    return parts


def suggest(estimate: Fit, wanted: Suggest, request: Request) -> list[dict[str, Any]]:
    """The candidates to run next, as they are in their table, with the interval's width before and after each."""
    table = wanted.candidates
    costs = (table[wanted.cost] if wanted.cost else pl.Series([1.0] * table.height)).cast(pl.Float64).to_numpy()
    targets = request.predict if request.predict is not None else table
    choices = design.suggest(estimate, variables(table, request), costs, variables(targets, request), wanted.k)
    return [
        {"candidate": table.drop(ROW).row(c.row, named=True), "width_before": c.width_before, "width_after": c.width}
        for c in choices
    ]


def allocate(estimate: Fit, resamples: Array, flops: Sequence[float]) -> list[dict[str, Any]]:
    """The best N and D for each amount of compute, the loss there and, with resamples, the 90 % intervals."""
    return [
        {
            "flops": one.flops,
            "N": one.n,
            "D": one.d,
            "loss": one.loss,
            "interval_N": one.n_interval and list(one.n_interval),
            "interval_D": one.d_interval and list(one.d_interval),
        }
        for one in allocation.allocate(estimate, resamples, flops)
    ]


def fit_parabolas(runs: Points, request: Request) -> dict[str, Any]:
    """The IsoFLOP profiles of the runs: the best N of each, the power of compute that they follow, and its bias."""
    n, d = (runs.variables[name] for name in "ND")
    profiles = allocation.isoflop(n, d, runs.y, draws=request.bootstrap, seed=request.seed)
    return {
        "profiles": [{"flops": float(c), "N": float(n)} for c, n in zip(profiles.flops, profiles.n_best, strict=True)],
        "exponent_N": profiles.exponent,
        "interval_N": profiles.interval and list(profiles.interval),
        "bias": finite(profiles.bias),
        "misplaced": finite(profiles.misplaced),
        "warnings": list(profiles.warnings),
    }
