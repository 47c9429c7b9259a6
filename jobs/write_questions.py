"""Drafts multiple-choice questions for the items of a news file that have none. A person has to check the drafts.

examples:
  python jobs/write_questions.py my.jsonl --out my-drafts.jsonl
  python jobs/write_questions.py my.jsonl --model qwen2.5-7b --questions 5 --out my-drafts.jsonl
"""

import argparse
import json
import sys
from pathlib import Path

from cli import check_out, exit_status, find_cluster

from engine import UserError
from engine.authoring import drafting
from engine.cluster import session
from engine.models import catalogue
from engine.news.format import read_records


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("news", help="JSON Lines file; `questions` may be missing or empty")
    parser.add_argument("--out", required=True, metavar="FILE", help="new file for all items with their drafts")
    parser.add_argument(
        "--model", default="qwen2.5-coder-1.5b", metavar="NAME", help="writes the drafts (default: %(default)s)"
    )
    parser.add_argument("--questions", type=int, default=5, metavar="N", help="drafts per item (default: %(default)s)")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32", help="default: %(default)s")
    parser.add_argument("--device", choices=["cpu", "gpu"], help="default: gpu if this machine has one")
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()
    check_out(args.out)
    if Path(args.out).exists():
        raise UserError(f"{args.out} exists; give --out a new name, so that no checked questions are overwritten")
    if args.questions < 1:
        raise UserError(f"--questions {args.questions}: must be at least 1")
    records = list(read_records(args.news, questions_needed=False).values())
    catalogue.find(args.model)
    texts = {r["id"]: r["text"] for r in records if not r.get("questions")}
    if not texts:
        print(f"Nothing to do: all {len(records)} items of {args.news} have questions.")
        return 0
    cluster = find_cluster(args.device)
    with session.running():
        drafts, dropped = drafting.write(args.model, texts, args.questions, args.precision, cluster)
    complete = [r | {"questions": r.get("questions") or drafts[r["id"]]} for r in records]
    Path(args.out).write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in complete), encoding="utf-8")
    print(f"Wrote drafts for {len(texts)} items to {args.out}; dropped: {dict(dropped) or 'nothing'}")
    print("Check each draft, then remove its field `draft`. A study with drafts is refused.")
    too_few = {name: len(questions) for name, questions in drafts.items() if len(questions) < args.questions}
    for name, n in too_few.items():
        print(f"TOO FEW DRAFTS {name}: {n} of {args.questions}", file=sys.stderr)
    return 1 if too_few else 0


if __name__ == "__main__":
    sys.exit(exit_status(main))
