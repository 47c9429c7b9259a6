"""Laws fitted to the groups of a table, as plain data for a file: what `jobs/fit.py` writes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from analysis.fits import design, selection
from analysis.fits.fit import Fit, fit_points
from analysis.fits.objectives import parse
from analysis.fits.problem import BadValues, FitError, Points
from analysis.fits.record import describe, draw, errors, finite, predictions
from analysis.fits.uncertainty import Member
from analysis.laws import form
from analysis.laws.form import Quantity

ROW = "__row__"  # a row's number in its file, for errors


@dataclass(frozen=True, kw_only=True, slots=True)
class Suggest:
    """Which `k` of the `candidates` to run next; `cost` is a column of them, or none if they cost alike."""

    k: int
    candidates: pl.DataFrame
    cost: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What to fit. `laws`: names, or ("auto",); `x`: variable of the law → column."""

    laws: tuple[str, ...]
    x: Mapping[str, str]
    y: str
    objective: str = "huber:1e-3:log"
    weights: str | None = None
    errors: str | None = None
    group: tuple[str, ...] = ()
    split: str | None = None
    cluster: str | None = None
    bootstrap: int = 0
    seed: int = 0
    predict: pl.DataFrame | None = None
    suggest: Suggest | None = None

    @property
    def columns(self) -> list[str]:
        """All columns of the table that are read."""
        return [*self.numbers, *self.group, *(c for c in (self.split, self.cluster) if c)]

    @property
    def numbers(self) -> list[str]:
        """Those that hold numbers."""
        return [*self.x.values(), self.y, *(c for c in (self.weights, self.errors) if c)]


def read(path: str, where: str | None = None) -> pl.DataFrame:
    """A CSV or Parquet table, filtered by an SQL expression. Raises FitError that names what is wrong."""
    try:
        table = (
            pl.read_parquet(path) if Path(path).suffix == ".parquet" else pl.read_csv(path, infer_schema_length=None)
        ).with_row_index(ROW, offset=1)
        return table.filter(pl.sql_expr(where)) if where else table
    except (OSError, pl.exceptions.PolarsError) as error:
        raise FitError(f"{path}: {str(error).splitlines()[0]}" + f" (--where {where!r})" * bool(where)) from error


def check_columns(table: pl.DataFrame, columns: Sequence[str], numbers: Sequence[str], of: str = "the table") -> None:
    """Raises FitError on columns that are missing or hold no numbers."""
    for column in columns:
        if column not in table.columns:
            there = ", ".join(name for name in table.columns if name != ROW)
            raise FitError(f"no column {column!r}; {of} has: {there}")
    for column in numbers:
        if not table[column].dtype.is_numeric():
            raise FitError(f"column {column!r} of {of} holds {table[column].dtype}, not numbers")


def check_values(table: pl.DataFrame, numbers: Sequence[str], positive: Sequence[str], of: str = "the table") -> None:
    """Raises BadValues on what is no number, or not above 0 in the columns that have to be; rows count from 1."""
    for column in numbers:
        value = pl.col(column).cast(pl.Float64)
        refuse(table, value.is_null() | ~value.is_finite(), f"column {column!r} of {of} is no number")
        if column in positive:
            refuse(table, value <= 0, f"column {column!r} of {of} is not above 0")


def refuse(table: pl.DataFrame, wrong: pl.Expr, told: str) -> None:
    """Raises BadValues if any row is wrong, and names the first ones."""
    if bad := table.filter(wrong)[ROW].to_list():
        first, more = ", ".join(map(str, bad[:5])), f" and {len(bad) - 5} more" * (len(bad) > 5)
        raise BadValues(f"{told} in row{'s' * (len(bad) > 1)} {first}{more}")


def parts(table: pl.DataFrame, request: Request) -> list[tuple[dict[str, Any], pl.DataFrame]]:
    """The table's groups, in its order, with their keys. Raises FitError on what is asked for and not there."""
    check_columns(table, request.columns, request.numbers)
    if not table.height:
        raise FitError("no rows are left to fit")
    if request.split and not set(table[request.split].unique().to_list()) <= {0, 1}:
        raise FitError(f"column {request.split!r} may hold 1 (fit) and 0 (held out) only")
    numbered = table if ROW in table.columns else table.with_row_index(ROW, offset=1)
    free = () if parse(request.objective).log else (request.y,)
    check_values(numbered, request.numbers, [c for c in request.numbers if c not in free])
    check_asked(request)
    if not request.group:
        return [({}, table)]
    grouped = table.group_by(request.group, maintain_order=True)
    return [(dict(zip(request.group, key, strict=True)), part) for key, part in grouped]


def check_asked(request: Request) -> None:
    """Raises FitError on points to predict, or candidates, that the law has no value at."""
    x = list(request.x.values())
    if request.predict is not None:
        check_columns(request.predict, x, x, "--predict")
        check_values(request.predict, x, x, "--predict")
    if request.suggest:
        asked = [*x, *([request.suggest.cost] if request.suggest.cost else [])]
        check_columns(request.suggest.candidates, asked, asked, "--candidates")
        check_values(request.suggest.candidates, asked, asked, "--candidates")


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


def points(part: pl.DataFrame, request: Request) -> Points:
    """The columns of the request as numbers, variables by the law's names."""

    def numbers(column: str | None) -> Any:
        return None if column is None else part[column].cast(pl.Float64).to_numpy()

    return Points(
        variables={name: numbers(column) for name, column in request.x.items()},
        y=numbers(request.y),
        weights=numbers(request.weights),
        errors=numbers(request.errors),
    )


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


def clusters_of(kept: pl.DataFrame, request: Request) -> list[object] | None:
    """What each point is resampled with."""
    return kept[request.cluster].to_list() if request.cluster else None


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
    if request.suggest:
        parts |= {"suggestions": suggestions(found, request.suggest, request)}
    return parts


def variables(table: pl.DataFrame, request: Request) -> dict[str, Any]:
    """A table's columns by the law's names."""
    return {name: table[column].cast(pl.Float64).to_numpy() for name, column in request.x.items()}


def suggestions(found: Fit, asked: Suggest, request: Request) -> list[dict[str, Any]]:
    """The candidates to run next, as they are in their table, with the interval's width before and after each."""
    table = asked.candidates
    costs = (table[asked.cost] if asked.cost else pl.Series([1.0] * table.height)).cast(pl.Float64).to_numpy()
    at = request.predict if request.predict is not None else table
    chosen = design.suggest(found, variables(table, request), costs, variables(at, request), asked.k)
    return [
        {"candidate": table.drop(ROW).row(s.row, named=True), "width_before": s.width_before, "width_after": s.width}
        for s in chosen
    ]


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
