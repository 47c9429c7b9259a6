"""What a fit is used for, as plain data: which trial to run next, how to spend compute, accuracy from loss."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.errors import FitError
from analysis.fits import allocation, chain, design
from analysis.fits.fit import Fit, fit_points
from analysis.fits.problem import Points
from analysis.fits.record import describe, draw, finite
from analysis.fits.request import Chain, Request, Suggest
from analysis.fits.table import ROW, chain_points, clusters_of, points, variables
from analysis.laws.form import find

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
    if request.chain and request.predict is not None:
        step, step_resamples = fit_step(rows, request, request.chain)
        predictions = predict_accuracy(estimate, resamples, step, step_resamples, variables(request.predict, request))
        record = describe(step, step_resamples, clusters_of(rows, request))
        parts["chain"] = {"step": record, "predictions": predictions}
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


def fit_step(rows: pl.DataFrame, request: Request, columns: Chain) -> tuple[Fit, Array]:
    """The second step of the chain, fitted to the measured losses and accuracies of the rows, and its resamples.

    Both steps are fitted to the same resamples of the rows, so that the chain's interval knows how their errors go
    together. Raises FitError that names the option.
    """
    try:
        step = fit_points(
            find("chained"), chain_points(rows, request, columns), objective="binomial", seed=request.seed
        )
    except FitError as error:
        raise type(error)(f"--chain {columns.accuracy} {columns.tries}: {error}") from error
    return step, draw(step, clusters_of(rows, request), request.bootstrap, request.seed)


def predict_accuracy(
    loss: Fit, resamples: Array, step: Fit, step_resamples: Array, at: Mapping[str, Array]
) -> list[dict[str, Any]]:
    """The loss and the accuracy at each point; with resamples, where the accuracy's curve lies with 90 %."""
    columns = {**at, "loss": loss.predict(at), "accuracy": chain.predict(loss, step, at)}
    if len(resamples):
        columns["low"], columns["high"] = chain.interval(loss, resamples, step, step_resamples, at)
    return [dict(zip(columns, map(float, row), strict=True)) for row in zip(*columns.values(), strict=True)]
