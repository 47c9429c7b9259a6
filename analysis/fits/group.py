"""Laws fitted to one group of a table, as plain data for a file: what `jobs/fit.py` writes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from analysis.errors import FitError
from analysis.fits import decisions, selection
from analysis.fits.fit import fit_points
from analysis.fits.objectives import parse
from analysis.fits.record import describe, draw, errors, finite, predictions
from analysis.fits.request import Request
from analysis.fits.table import clusters_of, points, variables
from analysis.fits.uncertainty import Member
from analysis.laws import form
from analysis.laws.form import Quantity


def fit_group(key: Mapping[str, Any], part: pl.DataFrame, request: Request) -> list[dict[str, Any]]:
    """One record a law. Raises FitError that names the group."""
    kept = part.filter(pl.col(request.split) == 1) if request.split else part
    hidden = part.filter(pl.col(request.split) == 0) if request.split else part.clear()
    try:
        if request.laws == ("auto",):
            return [chosen(key, weigh_forms(kept, request), kept, hidden, request)]
        return [single(key, form.find(name), kept, hidden, request) for name in request.laws]
    except FitError as error:
        where = ", ".join(f"{k}={v}" for k, v in key.items())
        raise type(error)(f"group {where}: {error}" if where else str(error)) from error


def single(
    key: Mapping[str, Any], law: form.Law, kept: pl.DataFrame, hidden: pl.DataFrame, request: Request
) -> dict[str, Any]:
    """A law's record."""
    found = fit_points(law, points(kept, request), objective=request.objective, seed=request.seed)
    clusters = clusters_of(kept, request)
    alone = [Member(fit=found, draws=draw(found, clusters, request.bootstrap, request.seed))]
    return record(key, alone, kept, hidden, request)


@dataclass(frozen=True, kw_only=True, slots=True)
class Forms:
    """All forms that could be fitted, the best predictor first; the same as members of a mix; why others could not."""

    ranked: list[selection.Candidate]
    members: list[Member]
    refused: dict[str, str]


def weigh_forms(kept: pl.DataFrame, request: Request) -> Forms:
    """Fits and ranks all forms of the request's variables."""
    of: Quantity = "accuracy" if parse(request.objective).binomial else "loss"
    forms = selection.candidates(list(request.x), of)
    given = points(kept, request)
    ranked = selection.compare(forms, given, objective=request.objective, seed=request.seed)
    clusters = clusters_of(kept, request)
    members = [
        Member(
            fit=c.fit,
            draws=draw(c.fit, clusters, request.bootstrap, request.seed),
            weight=c.weight,
            misses=c.misses,
        )
        for c in ranked
    ]
    return Forms(ranked=ranked, members=members, refused=selection.refusals(forms, ranked, given, request.objective))


def chosen(
    key: Mapping[str, Any], forms: Forms, kept: pl.DataFrame, hidden: pl.DataFrame, request: Request
) -> dict[str, Any]:
    """The winner's record; the errors are those of all forms together, weighted by what each would have predicted."""
    asked = hidden if hidden.height else kept
    at = variables(asked if request.predict is None else request.predict, request)
    return record(key, forms.members, kept, hidden, request) | {
        "choice": selection.choice(forms.ranked, at),
        "selection": [told(c, hidden, request) for c in forms.ranked],
        "refused": forms.refused,
    }


def record(
    key: Mapping[str, Any], members: Sequence[Member], kept: pl.DataFrame, hidden: pl.DataFrame, request: Request
) -> dict[str, Any]:
    """The first fit as plain data, with the errors and predictions of all."""
    found, draws = members[0].fit, members[0].draws
    given, held_out = points(kept, request), points(hidden, request) if hidden.height else None
    parts = {"group": dict(key)} | describe(found, draws, clusters_of(kept, request))
    parts |= errors(members, given, held_out, request.seed)
    if request.predict is not None:
        parts |= {"predictions": predictions(members, variables(request.predict, request), request.seed)}
    return parts | decisions.decide(found, draws, kept, request)


def told(candidate: selection.Candidate, hidden: pl.DataFrame, request: Request) -> dict[str, Any]:
    """How one form did."""
    alone = [Member(fit=candidate.fit, draws=draw(candidate.fit, None, 0, 0))]
    held_out = points(hidden, request) if hidden.height else None
    return {
        "law": candidate.fit.law.name,
        "rolling_error": finite(candidate.rolling),
        "aicc": candidate.aicc,
        "bic": candidate.bic,
        "weight": candidate.weight,
        "log_rmse_heldout": errors(alone, points(hidden.clear(), request), held_out, 0)["log_rmse_heldout"],
    }
