"""Laws fitted to the groups of a table, as plain data for a file: what `jobs/fit.py` writes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis import laws, selection, uncertainty
from analysis.fitting import STARTS, Fit, fit
from analysis.problem import FitError
from analysis.selection import Candidate

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What to fit. `laws`: names, or ("auto",); `x`: variable of the law → column."""

    laws: tuple[str, ...]
    x: Mapping[str, str]
    y: str
    objective: str = "huber:1e-3:log"
    group: tuple[str, ...] = ()
    split: str | None = None
    cluster: str | None = None
    bootstrap: int = 0
    seed: int = 0

    @property
    def columns(self) -> list[str]:
        """All columns of the table that are read."""
        return [*self.x.values(), self.y, *self.group, *(c for c in (self.split, self.cluster) if c)]


def read(path: str, where: str | None) -> pl.DataFrame:
    """A CSV or Parquet table, filtered by an SQL expression. Raises FitError that names what is wrong."""
    try:
        table = (
            pl.read_parquet(path) if Path(path).suffix == ".parquet" else pl.read_csv(path, infer_schema_length=None)
        )
        return table.filter(pl.sql_expr(where)) if where else table
    except (OSError, pl.exceptions.PolarsError) as error:
        raise FitError(f"{path}: {str(error).splitlines()[0]}" + f" (--where {where!r})" * bool(where)) from error


def parts(table: pl.DataFrame, request: Request) -> list[tuple[dict[str, Any], pl.DataFrame]]:
    """The table's groups, in its order, with their keys. Raises FitError on columns that are missing or not numbers."""
    for column in request.columns:
        if column not in table.columns:
            raise FitError(f"no column {column!r}; the table has: {', '.join(table.columns)}")
    for column in (*request.x.values(), request.y):
        if not table[column].dtype.is_numeric():
            raise FitError(f"column {column!r} holds {table[column].dtype}, not numbers")
    if not table.height:
        raise FitError("no rows are left to fit")
    if request.split and not set(table[request.split].unique().to_list()) <= {0, 1}:
        raise FitError(f"column {request.split!r} may hold 1 (fit) and 0 (held out) only")
    if not request.group:
        return [({}, table)]
    grouped = table.group_by(request.group, maintain_order=True)
    return [(dict(zip(request.group, key, strict=True)), part) for key, part in grouped]


def fit_group(key: Mapping[str, Any], part: pl.DataFrame, request: Request) -> list[dict[str, Any]]:
    """One record a law. Raises FitError that names the group."""
    kept = part.filter(pl.col(request.split) == 1) if request.split else part
    hidden = part.filter(pl.col(request.split) == 0) if request.split else part.clear()
    try:
        if request.laws == ("auto",):
            return [automatic(key, kept, hidden, request)]
        return [single(key, laws.find(name), kept, hidden, request) for name in request.laws]
    except FitError as error:
        where = ", ".join(f"{k}={v}" for k, v in key.items())
        raise FitError(f"group {where}: {error}" if where else str(error)) from error


def points(part: pl.DataFrame, request: Request) -> tuple[dict[str, Array], Array]:
    """The variables by the law's names, and y."""
    given = {name: part[column].cast(pl.Float64).to_numpy() for name, column in request.x.items()}
    return given, part[request.y].cast(pl.Float64).to_numpy()


def single(
    key: Mapping[str, Any], law: laws.Law, kept: pl.DataFrame, hidden: pl.DataFrame, request: Request
) -> dict[str, Any]:
    """A law's record."""
    variables, y = points(kept, request)
    found = fit(law, variables, y, objective=request.objective, seed=request.seed, starts=STARTS)
    draws = draw(found, kept, request)
    return describe(key, found, draws) | errors([(found, draws, 1.0)], kept, hidden, request)


def automatic(key: Mapping[str, Any], kept: pl.DataFrame, hidden: pl.DataFrame, request: Request) -> dict[str, Any]:
    """The winner's record; the errors are those of all forms together, weighted by what each would have predicted."""
    variables, y = points(kept, request)
    forms = selection.candidates(list(request.x))
    ranked = selection.compare(forms, variables, y, objective=request.objective, seed=request.seed)
    weighted = [(c.fit, draw(c.fit, kept, request), c.weight) for c in ranked]
    record = describe(key, ranked[0].fit, weighted[0][1])
    return record | errors(weighted, kept, hidden, request) | {"selection": [told(c, hidden, request) for c in ranked]}


def draw(found: Fit, kept: pl.DataFrame, request: Request) -> Array:
    """Bootstrap draws of the searched parameters; none unless asked for."""
    if not request.bootstrap:
        return np.empty((0, len(found.searched)))
    clusters = kept[request.cluster].to_list() if request.cluster else None
    return uncertainty.bootstrap(found, request.bootstrap, request.seed, clusters)


def describe(key: Mapping[str, Any], found: Fit, draws: Array) -> dict[str, Any]:
    """A fit as plain data."""
    return {
        "group": dict(key),
        "law": found.law.name,
        "parameters": found.parameters,
        "standard_errors": {name: finite(error) for name, error in found.standard_errors.items()},
        "intervals": finite_intervals(found, draws),
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
    }


def finite(number: float) -> float | None:
    """The number, or None where JSON has none for it."""
    return float(number) if np.isfinite(number) else None


def finite_intervals(found: Fit, draws: Array) -> dict[str, Any] | None:
    """`uncertainty.intervals` as plain data; None without draws."""
    if not len(draws):
        return None
    by_name = uncertainty.intervals(found, draws)
    return {n: {kind: [finite(b) for b in bounds] for kind, bounds in kinds.items()} for n, kinds in by_name.items()}


def errors(
    weighted: Sequence[tuple[Fit, Array, float]], kept: pl.DataFrame, hidden: pl.DataFrame, request: Request
) -> dict[str, Any]:
    """Errors of ln y where the law was fitted and where it was not, and how often the 90 % interval held the latter."""
    found: dict[str, Any] = {"n_heldout": hidden.height, "log_rmse_heldout": None, "coverage_90": None}
    mixed = [(fit, weight) for fit, _, weight in weighted]
    found["log_rmse_fit"] = log_rmse(mixed, kept, request)
    if hidden.height:
        variables, y = points(hidden, request)
        found["log_rmse_heldout"] = log_rmse(mixed, hidden, request)
        if len(weighted[0][1]):
            low, high = uncertainty.mixed_intervals(weighted, variables, seed=request.seed)
            found["coverage_90"] = float(((low <= y) & (y <= high)).mean())
    return found


def log_rmse(mixed: Sequence[tuple[Fit, float]], part: pl.DataFrame, request: Request) -> float | None:
    """None where a y is not above 0."""
    variables, y = points(part, request)
    return finite(selection.log_rmse(selection.mix(mixed, variables), y)) if (y > 0).all() else None


def told(candidate: Candidate, hidden: pl.DataFrame, request: Request) -> dict[str, Any]:
    """How one form did."""
    return {
        "law": candidate.fit.law.name,
        "rolling_log_rmse": finite(candidate.rolling),
        "aicc": candidate.aicc,
        "bic": candidate.bic,
        "weight": candidate.weight,
        "log_rmse_heldout": log_rmse([(candidate.fit, 1.0)], hidden, request) if hidden.height else None,
    }
