"""Reads a table and checks that a request can be made of it; faults are named with their column and rows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from analysis.errors import BadValues, FitError
from analysis.fits.objectives import parse
from analysis.fits.problem import Points
from analysis.fits.request import Chain, Request

ROW = "__row__"  # a row's number in its file, for errors


def read(path: str, where: str | None = None) -> pl.DataFrame:
    """A CSV or Parquet table, filtered by an SQL expression. Raises FitError that names what is wrong."""
    try:
        table = (
            pl.read_parquet(path) if Path(path).suffix == ".parquet" else pl.read_csv(path, infer_schema_length=None)
        ).with_row_index(ROW, offset=1)
        return table.filter(pl.sql_expr(where)) if where else table
    except (OSError, pl.exceptions.PolarsError) as error:
        raise FitError(f"{path}: {str(error).splitlines()[0]}" + f" (--where {where!r})" * bool(where)) from error


def check_out(path: str | None) -> None:
    """Raises FitError before any work if a file could not be written there after it."""
    if path and not Path(path).absolute().parent.is_dir():
        raise FitError(f"--out {path}: there is no folder {Path(path).absolute().parent}; make it first")


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
    any_sign = [] if parse(request.objective).log else [request.y]
    any_sign += [request.chain.accuracy] if request.chain else []
    check_values(numbered, request.numbers, [c for c in request.numbers if c not in any_sign])
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


# ---- columns as numbers ----------------------------------------------------------------------------------------------


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


def variables(table: pl.DataFrame, request: Request) -> dict[str, Any]:
    """A table's columns by the law's names."""
    return {name: table[column].cast(pl.Float64).to_numpy() for name, column in request.x.items()}


def chain_points(part: pl.DataFrame, request: Request, chain: Chain) -> Points:
    """Accuracies over the measured losses."""
    loss, accuracy, tries = (part[c].cast(pl.Float64).to_numpy() for c in (request.y, chain.accuracy, chain.tries))
    return Points(variables={"L": loss}, y=accuracy, weights=tries)


def clusters_of(kept: pl.DataFrame, request: Request) -> list[object] | None:
    """What each point is resampled with."""
    return kept[request.cluster].to_list() if request.cluster else None
