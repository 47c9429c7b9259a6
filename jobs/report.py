"""Writes a study's report: one HTML page that opens without network.

examples:
  python jobs/report.py runs/quickstart
  python jobs/report.py s3://bucket/runs/newnews --out newnews.html
"""

import argparse
import sys
from pathlib import Path

from cli import check_out, exit_status

from analysis.errors import FitError
from engine.storage.ledger import Ledger
from engine.storage.store import Store


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", metavar="STUDY_DIR", help="STORAGE/STUDY: a folder or an object-store address")
    parser.add_argument("--out", metavar="FILE", help="default: results/report.html in STUDY_DIR")
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()
    check_out(args.out)
    ledger = Ledger(Store(args.study))
    files = ledger.result_files()

    from analysis.report import page  # after the checks: drawing takes a while to import

    trials, questions = ledger.results()
    name, unfinished = ledger.store.root.rstrip("/").rsplit("/", 1)[-1], ledger.unfinished_keys()
    source = page.Source(study=name, files=files, trials=trials, questions=questions, unfinished=unfinished)
    content = page.render(source, print_progress).encode()
    if args.out:
        Path(args.out).write_bytes(content)
    print(f"Written: {args.out or ledger.put_report(content)}")
    return 0


def print_progress(line: str) -> None:
    """Prints what is being done, on a terminal."""
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(exit_status(main, FitError))
