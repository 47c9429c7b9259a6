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
from analysis.fits.record import describe_fit, resample, to_json
from analysis.fits.request import Chain, Request, Suggest
from analysis.fits.table import ROW, take_chain_points, take_clusters, take_numbers, take_points, take_variables
from analysis.laws.form import find

Array = NDArray[np.float64]


def decide(fit: Fit, resamples: Array, rows: pl.DataFrame, request: Request) -> dict[str, Any]:
    """The parts of the record that the request asks for beyond the fit.

    `resamples`: [resamples, p], or none; `rows`: those that the law was fitted to.
    """
    parts: dict[str, Any] = {}
    if request.suggest:
        parts["suggestions"] = suggest(fit, request.suggest, request)
    if request.allocate:
        parts["allocations"] = allocate(fit, resamples, request.allocate)
    if request.isoflop:
        parts["isoflop"] = fit_isoflop(take_points(rows, request), request)
    if request.chain and request.predict is not None:
        step, step_resamples = fit_step(rows, request, request.chain)
        at = take_variables(request.predict, request)
        parts["chain"] = {
            "step": describe_fit(step, step_resamples, take_clusters(rows, request)),
            "predictions": predict_accuracy(fit, resamples, step, step_resamples, at),
        }
    return parts


def suggest(fit: Fit, wanted: Suggest, request: Request) -> list[dict[str, Any]]:
    """The candidates to run next, as in their table, with the width of the interval before and after each."""
    table = wanted.candidates
    costs = take_numbers(table, wanted.cost) if wanted.cost else np.ones(table.height)
    targets = request.predict if request.predict is not None else table
    choices = design.suggest(fit, take_variables(table, request), costs, take_variables(targets, request), wanted.k)
    return [
        {"candidate": table.drop(ROW).row(c.row, named=True), "width_before": c.width_before, "width_after": c.width}
        for c in choices
    ]


def allocate(fit: Fit, resamples: Array, flops: Sequence[float]) -> list[dict[str, Any]]:
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
        for one in allocation.allocate(fit, resamples, flops)
    ]


def fit_isoflop(runs: Points, request: Request) -> dict[str, Any]:
    """The IsoFLOP profiles of the runs: the best N of each, the power of compute that they follow, and its bias."""
    n, d = (runs.variables[name] for name in "ND")
    isoflop = allocation.fit_isoflop(n, d, runs.y, resamples=request.bootstrap, seed=request.seed)
    return {
        "profiles": [{"flops": float(c), "N": float(n)} for c, n in zip(isoflop.flops, isoflop.n_best, strict=True)],
        "exponent_N": isoflop.exponent,
        "interval_N": isoflop.interval and list(isoflop.interval),
        "bias": to_json(isoflop.bias),
        "misplaced": to_json(isoflop.misplaced),
        "warnings": list(isoflop.warnings),
    }


def fit_step(rows: pl.DataFrame, request: Request, columns: Chain) -> tuple[Fit, Array]:
    """The second step of the chain, fitted to the measured losses and accuracies of the rows, and its resamples.

    Both steps are fitted to the same resamples of the rows, so that the interval of the chain includes the correlation
    of their errors. Raises FitError that names the option.
    """
    points = take_chain_points(rows, request, columns)
    try:
        step = fit_points(find("chained"), points, objective="binomial", seed=request.seed)
    except FitError as error:
        raise type(error)(f"--chain {columns.accuracy} {columns.tries}: {error}") from error
    return step, resample(step, take_clusters(rows, request), request.bootstrap, request.seed)


def predict_accuracy(
    loss: Fit, resamples: Array, step: Fit, step_resamples: Array, at: Mapping[str, Array]
) -> list[dict[str, Any]]:
    """The loss and the accuracy at each point; with resamples, bounds of 90 % of the curve of the accuracy."""
    columns = {**at, "loss": loss.predict(at), "accuracy": chain.predict(loss, step, at)}
    if len(resamples):
        columns["low"], columns["high"] = chain.predict_interval(loss, resamples, step, step_resamples, at)
    return [dict(zip(columns, map(to_json, row), strict=True)) for row in zip(*columns.values(), strict=True)]
