"""One file of a study, read as what it should be: what the parts of the ledger share."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import polars as pl

from engine.storage.records import RecordError, from_plain, to_plain
from engine.storage.store import Store

R = TypeVar("R")
REMOVE_FOLDER = "remove its folder, so that it is made again"


@dataclass(frozen=True, slots=True)
class Files:
    """Typed reads and writes of single files below a study's root."""

    store: Store

    def _write(self, path: str, record: Any) -> None:
        self.store.write_json(path, to_plain(record))

    def _read(self, kind: type[R], path: str, remedy: str = REMOVE_FOLDER) -> R:
        address = self.store.address(path)
        try:
            value = self.store.read_json(path, remedy)
        except FileNotFoundError:
            raise RecordError(f"{address}: no such file; {remedy}") from None
        return from_plain(kind, value, address)

    def _table(self, path: str, remedy: str, *columns: str) -> pl.DataFrame:
        """A table that has these columns."""
        address = self.store.address(path)
        try:
            table = self.store.read_table(path, remedy)
        except FileNotFoundError:
            raise RecordError(f"{address}: no such file; {remedy}") from None
        if missing := [column for column in columns if column not in table.columns]:
            raise RecordError(f"{address}: a table without column {missing[0]!r}; {remedy}")
        return table


def collect_faults(reads: Iterable[Callable[[], Any]]) -> list[str]:
    """What of these reads fails, and what to do."""
    faults = []
    for read in reads:
        try:
            read()
        except RecordError as fault:
            faults.append(str(fault))
    return faults


def trial_file(key: str, file: str) -> str:
    """The path of a file of a trial."""
    return f"trials/{key}/{file}"
