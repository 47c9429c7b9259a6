"""The results' part of the ledger: the two tables and the report."""

from dataclasses import dataclass

import polars as pl

from engine import UserError
from engine.storage.files import Files
from engine.storage.records import RecordError

RESULT_TABLES = ("trials", "questions")
SOURCES = "results/sources.parquet"
REMOVE_RESULTS = "run jobs/grid.py, which makes it again"


@dataclass(frozen=True, slots=True)
class Tables(Files):
    """Typed reads and writes of the results of a study."""

    def put_results(self, trials: pl.DataFrame, questions: pl.LazyFrame, sources: pl.DataFrame) -> None:
        """Writes the two results tables, and last what each trial's rows were made from."""
        self.store.remove(SOURCES)
        tables: list[pl.DataFrame | pl.LazyFrame] = [trials, questions]
        for name, table in zip(RESULT_TABLES, tables, strict=True):
            self.store.write_table(f"results/{name}.parquet", table, "lz4")  # millions of rows, written again and again
        self.store.write_table(SOURCES, sources)

    def results_with_sources(self) -> tuple[pl.DataFrame, pl.LazyFrame, pl.DataFrame]:
        """The two results tables, and what their rows were made from.

        Raises RecordError, also if a table was written after the sources: it is not of this ledger then.
        """
        written = self.store.modified(SOURCES)
        for path in (f"results/{name}.parquet" for name in RESULT_TABLES):
            self._check_table(path, REMOVE_RESULTS, "trial")
            if self.store.modified(path) > written:
                raise RecordError(f"{self.store.address(path)}: written after {SOURCES}; {REMOVE_RESULTS}")
        trials, questions = (f"results/{name}.parquet" for name in RESULT_TABLES)
        sources = self._table(SOURCES, REMOVE_RESULTS, "trial")
        return self._table(trials, REMOVE_RESULTS), self.store.scan_table(questions), sources

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

    def results_address(self) -> str:
        """Where the results tables are, for a person."""
        first, second = (f"{name}.parquet" for name in RESULT_TABLES)
        return f"{self.store.address(f'results/{first}')} and {second}"

    def put_report(self, page: bytes) -> str:
        """Keeps the report's page; gives its address."""
        self.store.write_bytes("results/report.html", page)
        return self.store.address("results/report.html")
