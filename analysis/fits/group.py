"""Laws fitted to one group of a table, as plain data for a file: what `jobs/fit.py` writes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from analysis.errors import FitError
from analysis.fits import decisions, selection
from analysis.fits.fit import fit_points
from analysis.fits.objectives import parse
from analysis.fits.record import describe_fit, list_predictions, measure_errors, resample, to_json
from analysis.fits.request import Request
from analysis.fits.table import take_clusters, take_points, take_variables
from analysis.fits.uncertainty import Member
from analysis.laws.form import Law, Quantity, find


def fit_group(key: Mapping[str, Any], rows: pl.DataFrame, request: Request) -> list[dict[str, Any]]:
    """One record per law. Raises FitError that names the group."""
    train = rows.filter(pl.col(request.split) == 1) if request.split else rows
    test = rows.filter(pl.col(request.split) == 0) if request.split else rows.clear()
    try:
        if request.laws == ("auto",):
            return [record_best(key, weigh_forms(train, request), train, test, request)]
        return [record_law(key, find(name), train, test, request) for name in request.laws]
    except FitError as error:
        where = ", ".join(f"{k}={v}" for k, v in key.items())
        raise type(error)(f"group {where}: {error}" if where else str(error)) from error


def record_law(
    key: Mapping[str, Any], law: Law, train: pl.DataFrame, test: pl.DataFrame, request: Request
) -> dict[str, Any]:
    """The record of one law."""
    fit = fit_points(law, take_points(train, request), objective=request.objective, seed=request.seed)
    resamples = resample(fit, take_clusters(train, request), request.bootstrap, request.seed)
    return make_record(key, [Member(fit=fit, resamples=resamples)], train, test, request)


@dataclass(frozen=True, kw_only=True, slots=True)
class Forms:
    """All forms that could be fitted, the best predictor first; the same as members of a mix; why others could not."""

    ranked: list[selection.Candidate]
    members: list[Member]
    refused: dict[str, str]


def weigh_forms(train: pl.DataFrame, request: Request) -> Forms:
    """Fits and ranks all forms of the variables of the request."""
    of: Quantity = "accuracy" if parse(request.objective).binomial else "loss"
    forms = selection.list_candidates(list(request.x), of)
    points, clusters = take_points(train, request), take_clusters(train, request)
    ranked = selection.compare(forms, points, objective=request.objective, seed=request.seed)
    members = [
        Member(
            fit=c.fit,
            resamples=resample(c.fit, clusters, request.bootstrap, request.seed),
            weight=c.weight,
            misses=c.misses,
        )
        for c in ranked
    ]
    refused = selection.explain_refusals(forms, ranked, points, request.objective)
    return Forms(ranked=ranked, members=members, refused=refused)


def record_best(
    key: Mapping[str, Any], forms: Forms, train: pl.DataFrame, test: pl.DataFrame, request: Request
) -> dict[str, Any]:
    """The record of the best predictor; its errors are those of the mix of all forms by their weights."""
    targets = test if test.height else train
    at = take_variables(targets if request.predict is None else request.predict, request)
    return make_record(key, forms.members, train, test, request) | {
        "choice": selection.describe_choice(forms.ranked, at),
        "selection": [describe_candidate(c, test, request) for c in forms.ranked],
        "refused": forms.refused,
    }


def make_record(
    key: Mapping[str, Any], members: Sequence[Member], train: pl.DataFrame, test: pl.DataFrame, request: Request
) -> dict[str, Any]:
    """The first fit as plain data, with the errors and predictions of all members."""
    fit, resamples = members[0].fit, members[0].resamples
    test_points = take_points(test, request) if test.height else None
    record = {"group": dict(key)} | describe_fit(fit, resamples, take_clusters(train, request))
    record |= measure_errors(members, take_points(train, request), test_points, request.seed)
    if request.predict is not None:
        at = take_variables(request.predict, request)
        record |= {"predictions": list_predictions(members, at, request.seed)}
    return record | decisions.decide(fit, resamples, train, request)


def describe_candidate(candidate: selection.Candidate, test: pl.DataFrame, request: Request) -> dict[str, Any]:
    """How well one form predicts."""
    alone = [Member(fit=candidate.fit, resamples=resample(candidate.fit, None, 0, 0))]
    test_points = take_points(test, request) if test.height else None
    errors = measure_errors(alone, take_points(test.clear(), request), test_points, 0)
    return {
        "law": candidate.fit.law.name,
        "rolling_error": to_json(candidate.rolling),
        "aicc": candidate.aicc,
        "bic": candidate.bic,
        "weight": candidate.weight,
        "log_rmse_heldout": errors["log_rmse_heldout"],
    }
