"""One file of a study, read as what it should be: what the parts of the ledger share."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import polars as pl

from engine.storage.fingerprint import fingerprint
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
        return from_plain(kind, self._find(self.store.read_json, path, remedy), self.store.address(path))

    def _read_first(self, kind: type[R], path: str, name: str) -> R:
        """The first field of a record; the others are not read."""
        value = self._find(partial(self.store.read_first, name=name), path, REMOVE_FOLDER)
        return from_plain(kind, value, self.store.address(path))

    def _table(self, path: str, remedy: str, *columns: str) -> pl.DataFrame:
        """A table that has these columns."""
        table = self._find(self.store.read_table, path, remedy)
        self._check_columns(table.columns, columns, path, remedy)
        return table

    def _columns(self, path: str, remedy: str, columns: Sequence[str]) -> pl.DataFrame:
        """These columns of a table; the others are not read."""
        self._check_table(path, remedy, *columns)
        return self.store.read_table(path, remedy, list(columns))

    def _check_table(self, path: str, remedy: str, *columns: str) -> None:
        """Raises RecordError if a table is missing, cut or without one of these columns. Reads only its end."""
        self._check_columns(self._find(self.store.read_columns, path, remedy), columns, path, remedy)

    def _stamp(self, paths: Iterable[str]) -> str:
        """Differs whenever one of these files has been written, put or removed since."""
        return fingerprint([[path, self.store.modified(path)] for path in paths])

    def _find(self, read: Callable[[str, str], R], path: str, remedy: str) -> R:
        try:
            return read(path, remedy)
        except FileNotFoundError:
            raise RecordError(f"{self.store.address(path)}: no such file; {remedy}") from None

    def _check_columns(self, there: Sequence[str], needed: Sequence[str], path: str, remedy: str) -> None:
        if missing := [column for column in needed if column not in there]:
            raise RecordError(f"{self.store.address(path)}: a table without column {missing[0]!r}; {remedy}")


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
