"""Runs MMLU-Pro, GSM8K and IFEval on a model, with or without an adapter, by lm-evaluation-harness (extra `harness`).

examples:
  python jobs/harness.py qwen2.5-0.5b --out harness/before
  python jobs/harness.py qwen2.5-0.5b --adapter runs/newnews/trials/KEY/adapter --out harness/after
  python jobs/harness.py smollm2-135m --tasks my_task --include my_tasks/ --out harness/mine
"""

import argparse
import sys

from cli import exit_status

from engine.cluster import machines
from engine.evaluation import harness
from engine.models import catalogue


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a known model, a folder or a hub id")
    parser.add_argument("--adapter", metavar="FOLDER", help="a PEFT adapter of it")
    parser.add_argument("--tasks", nargs="+", default=list(harness.TASKS), metavar="NAME", help="default: %(default)s")
    parser.add_argument("--include", metavar="FOLDER", help="the harness's task files of your own")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N questions of a task")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="bfloat16", help="default: %(default)s")
    parser.add_argument("--device", choices=["cpu", "gpu"], help="default: gpu if this machine has one")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="where the harness writes its results")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    catalogue.find(args.model)
    harness.check(args.adapter, args.tasks, own_tasks=bool(args.include))
    device = machines.this_machine(args.device).device
    line = harness.command(args.model, args.adapter, args.tasks, device, args.precision, args.out)
    line += ["--include_path", args.include] if args.include else []
    line += ["--limit", str(args.limit)] if args.limit else []
    return harness.run(line)


if __name__ == "__main__":
    sys.exit(exit_status(main))
