"""Writes a study's report: one HTML page that opens without network.

examples:
  python jobs/report.py runs/quickstart
  python jobs/report.py s3://bucket/runs/newnews --out newnews.html
"""

import argparse
import io
import sys
from pathlib import Path

import polars as pl
from common import ended_well
from outputs import check_out

from engine.store import Store

TABLES = ("trials.parquet", "questions.parquet")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", metavar="STUDY_DIR", help="STORAGE/STUDY: a folder or an object-store address")
    parser.add_argument("--out", metavar="FILE", help="default: results/report.html in STUDY_DIR")
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()
    check_out(args.out)
    store = Store(args.study)
    files = {name: read(store, name) for name in TABLES}

    from analysis.errors import FitError
    from analysis.report import page  # after the checks: drawing takes a while to import

    trials, questions = (pl.read_parquet(io.BytesIO(content)) for content in files.values())
    name = store.root.rstrip("/").rsplit("/", 1)[-1]
    source = page.Source(study=name, files=files, trials=trials, questions=questions, unfinished=list_unfinished(store))
    try:
        content = page.render(source, print_progress).encode()
    except FitError as error:
        print(error, file=sys.stderr)
        return 2
    if args.out:
        Path(args.out).write_bytes(content)
    else:
        store.write_bytes("results/report.html", content)
    print(f"Written: {args.out or store.address('results/report.html')}")
    return 0


def read(store: Store, name: str) -> bytes:
    """The file of a results table. Raises ValueError that says what to do if there is none."""
    try:
        return store.read_bytes(f"results/{name}")
    except FileNotFoundError:
        raise ValueError(f"{store.address(f'results/{name}')}: no such file; run the study with jobs/grid.py") from None


def list_unfinished(store: Store) -> list[str]:
    """Trials that were begun and have no result."""
    trials, results = ({path.split("/")[1] for path in store.list(f"trials/*/{f}.json")} for f in ("trial", "result"))
    return sorted(trials - results)


def print_progress(line: str) -> None:
    """Prints what is being done, on a terminal."""
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(ended_well(main))
