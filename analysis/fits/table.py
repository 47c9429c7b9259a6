"""Reads a table and checks it against a request; an error names the column and the rows."""

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


def check_columns(table: pl.DataFrame, columns: Sequence[str], numbers: Sequence[str], of: str = "the table") -> None:
    """Raises FitError on columns that are missing or contain no numbers."""
    for column in columns:
        if column not in table.columns:
            names = ", ".join(name for name in table.columns if name != ROW)
            raise FitError(f"no column {column!r}; {of} has: {names}")
    for column in numbers:
        if not table[column].dtype.is_numeric():
            raise FitError(f"column {column!r} of {of} contains {table[column].dtype}, not numbers")


def check_values(table: pl.DataFrame, numbers: Sequence[str], positive: Sequence[str], of: str = "the table") -> None:
    """Raises BadValues on values that are no numbers, or not above 0 in `positive` columns; rows count from 1."""
    for column in numbers:
        value = pl.col(column).cast(pl.Float64)
        refuse_rows(table, value.is_null() | ~value.is_finite(), f"column {column!r} of {of} is no number")
        if column in positive:
            refuse_rows(table, value <= 0, f"column {column!r} of {of} is not above 0")


def refuse_rows(table: pl.DataFrame, wrong: pl.Expr, fault: str) -> None:
    """Raises BadValues with the first wrong rows, if there are any."""
    if bad := table.filter(wrong)[ROW].to_list():
        first, more = ", ".join(map(str, bad[:5])), f" and {len(bad) - 5} more" * (len(bad) > 5)
        raise BadValues(f"{fault} in row{'s' * (len(bad) > 1)} {first}{more}")


def split_groups(table: pl.DataFrame, request: Request) -> list[tuple[dict[str, Any], pl.DataFrame]]:
    """The groups of the table, in its order, with their keys. Raises FitError if the request does not match it."""
    check_columns(table, request.columns, request.numbers)
    if not table.height:
        raise FitError("no rows are left to fit")
    if request.split and not set(table[request.split].unique().to_list()) <= {0, 1}:
        raise FitError(f"column {request.split!r} must contain only 1 (fit) and 0 (held out)")
    numbered = table if ROW in table.columns else table.with_row_index(ROW, offset=1)
    any_sign = [] if parse(request.objective).log else [request.y]
    any_sign += [request.chain.accuracy] if request.chain else []
    check_values(numbered, request.numbers, [c for c in request.numbers if c not in any_sign])
    check_targets(request)
    if not request.group:
        return [({}, table)]
    grouped = table.group_by(request.group, maintain_order=True)
    return [(dict(zip(request.group, key, strict=True)), part) for key, part in grouped]


def check_targets(request: Request) -> None:
    """Raises FitError on points to predict, or on candidates, at which the law has no value."""
    x = list(request.x.values())
    if request.predict is not None:
        check_columns(request.predict, x, x, "--predict")
        check_values(request.predict, x, x, "--predict")
    if request.suggest:
        columns = [*x, *([request.suggest.cost] if request.suggest.cost else [])]
        check_columns(request.suggest.candidates, columns, columns, "--candidates")
        check_values(request.suggest.candidates, columns, columns, "--candidates")


# ---- columns as numbers ----------------------------------------------------------------------------------------------


def take_numbers(table: pl.DataFrame, column: str) -> Any:
    """A column as numbers."""
    return table[column].cast(pl.Float64).to_numpy()


def take_points(table: pl.DataFrame, request: Request) -> Points:
    """The columns of the request as numbers; variables are named as in the law."""
    return Points(
        variables=take_variables(table, request),
        y=take_numbers(table, request.y),
        weights=take_numbers(table, request.weights) if request.weights else None,
        errors=take_numbers(table, request.errors) if request.errors else None,
    )


def take_variables(table: pl.DataFrame, request: Request) -> dict[str, Any]:
    """The variables of the table, named as in the law."""
    return {name: take_numbers(table, column) for name, column in request.x.items()}


def take_chain_points(table: pl.DataFrame, request: Request, chain: Chain) -> Points:
    """Accuracies over the measured losses."""
    loss, accuracy, tries = (take_numbers(table, c) for c in (request.y, chain.accuracy, chain.tries))
    return Points(variables={"L": loss}, y=accuracy, weights=tries)


def take_clusters(table: pl.DataFrame, request: Request) -> list[object] | None:
    """The cluster of each row; None if single rows are resampled."""
    return table[request.cluster].to_list() if request.cluster else None
