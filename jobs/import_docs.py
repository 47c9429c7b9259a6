"""Makes a news file of documents: Markdown, plain text, HTML, PDF and Word (extra `docs`).

Each section becomes an item, a long one several, each with its headings. The items have no questions yet: write some,
or let jobs/write_questions.py draft them.

examples:
  python jobs/import_docs.py handbook/ --out handbook.jsonl
  python jobs/import_docs.py notes.md minutes.docx --out team.jsonl --domain team
"""

import argparse
import json
import shlex
import sys
from pathlib import Path

from cli import check_out, exit_status

from engine import UserError
from engine.authoring import importing
from engine.news.format import check_domain, read_records


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "documents", nargs="+", metavar="FOLDER_OR_FILE", help="folders are searched with their folders"
    )
    parser.add_argument("--out", required=True, metavar="FILE", help="new news file (JSON Lines)")
    parser.add_argument("--domain", default="documents", metavar="NAME", help="of all items (default: %(default)s)")
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()
    check_out(args.out)
    if Path(args.out).exists():
        raise UserError(f"{args.out} exists; give --out a new name, so that no questions are overwritten")
    if fault := check_domain(args.domain):
        raise UserError(f"--domain: {fault}")
    files, other = importing.find_files(args.documents)
    result = importing.read_all(files, args.domain)
    report(result, other)
    if not result.items:
        raise UserError(f"No item was made of {', '.join(args.documents)}; {args.out} was not written.")
    Path(args.out).write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in result.items), encoding="utf-8")
    read_records(args.out, questions_needed=False)
    print(f"Wrote {len(result.items)} items of domain {args.domain} to {args.out}.")
    draft = ["python", "jobs/write_questions.py", args.out, "--out", str(Path(args.out).with_suffix(".drafts.jsonl"))]
    print(f"Next, read them and let questions be drafted: {shlex.join(draft)}")
    return 0


def report(result: importing.Import, other: list[str]) -> None:
    """Prints what was taken, what was left, and which items are nearly equal."""
    for path, n in result.taken.items():
        print(f"taken  {path}: {n} {'item' if n == 1 else 'items'}")
    for line in [*result.left, *other]:
        print(f"note   {line}")
    for first, second, ratio in result.near:
        print(f"nearly equal ({ratio:.0f} of 100)  {first} and {second}: keep one of them")


if __name__ == "__main__":
    sys.exit(exit_status(main))
