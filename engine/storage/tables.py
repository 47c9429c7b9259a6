"""The results' part of the ledger: the two tables and the report."""

from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from engine import UserError
from engine.storage.files import Files, trial_file

RESULT_TABLES = ("trials", "questions")
REMOVE_RESULTS = "run jobs/grid.py, which makes it again"


@dataclass(frozen=True, slots=True)
class Tables(Files):
    """Typed reads and writes of the results of a study."""

    def put_results(self, trials: pl.DataFrame, questions: pl.DataFrame) -> None:
        """Writes the two results tables."""
        for name, table in zip(RESULT_TABLES, (trials, questions), strict=True):
            self.store.write_table(f"results/{name}.parquet", table)

    def result_files(self) -> dict[str, bytes]:
        """The two results tables as Parquet files, by file name. Raises UserError if there are none."""
        names = [f"{name}.parquet" for name in RESULT_TABLES]
        try:
            return {name: self.store.read_bytes(f"results/{name}") for name in names}
        except FileNotFoundError:
            address = self.store.address(f"results/{names[0]}")
            raise UserError(f"{address}: no such file; run the study with jobs/grid.py") from None

    def results(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The two results tables (trials, questions). Raises RecordError."""
        trials, questions = (self._table(f"results/{name}.parquet", REMOVE_RESULTS, "trial") for name in RESULT_TABLES)
        return trials, questions

    def results_are_newer_than(self, keys: Iterable[str]) -> bool:
        """Were the results tables written after all of these trials were done?"""
        written = min(self.store.modified(f"results/{name}.parquet") for name in RESULT_TABLES)
        return all(self.store.modified(trial_file(key, "result.json")) <= written for key in keys)

    def results_address(self) -> str:
        """Where the results tables are, for a person."""
        first, second = (f"{name}.parquet" for name in RESULT_TABLES)
        return f"{self.store.address(f'results/{first}')} and {second}"

    def put_report(self, page: bytes) -> str:
        """Keeps the report's page; gives its address."""
        self.store.write_bytes("results/report.html", page)
        return self.store.address("results/report.html")
