"""Benchmarks: each measures a ratio against another tool on the same work, in one run, and tells it against its goal.

Contenders run in processes of their own, in turns; the median of --repeat runs counts. Let nothing else run.

examples:
  python jobs/bench.py selfplay --out selfplay.json
  python jobs/bench.py selfplay --against ray-data-llm
  python jobs/bench.py finetune --model qwen2.5-coder-0.5b
  python jobs/bench.py evaluate --separate 2
"""

import argparse
import sys
from typing import Any

import bench_evaluate
import bench_finetune
import bench_selfplay
from common import ended_well

# name: module, what it compares, examples, how often it is repeated
BENCHMARKS: dict[str, tuple[Any, str, str, int]] = {
    "selfplay": (
        bench_selfplay,
        "New tokens a second of self-play over bare vLLM's and transformers', engine start apart; or, against "
        "ray-data-llm, seconds of the whole phase.",
        "selfplay\n  python jobs/bench.py selfplay --against ray-data-llm --repeat 1",
        2,
    ),
    "finetune": (
        bench_finetune,
        "Trained tokens a second of the fine-tuning loop over TRL's SFTTrainer (extra `bench`), first step apart.",
        "finetune\n  python jobs/bench.py finetune --pool runs/quickstart/pools/events-paraphrase-smollm2-135m",
        3,
    ),
    "evaluate": (
        bench_evaluate,
        "Seconds to score 8 adapters on an engine each over all 8 on one engine, from process start on.",
        "evaluate\n  python jobs/bench.py evaluate --separate 2 --out evaluate.json",
        1,
    ),
}


def arguments() -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    commands = parser.add_subparsers(dest="benchmark", required=True)
    for name, (module, purpose, example, repeat) in BENCHMARKS.items():
        epilog = f"examples:\n  python jobs/bench.py {example}"
        one = commands.add_parser(name, help=purpose, description=purpose, epilog=epilog, formatter_class=raw)
        one.add_argument("--model", default="smollm2-135m", help="(default: %(default)s)")
        one.add_argument("--device", choices=["cpu", "gpu"], help="default: gpu where there is one")
        one.add_argument("--repeat", type=int, default=repeat, help="runs of each contender (default: %(default)s)")
        one.add_argument("--out", metavar="FILE", help="write all numbers there as JSON")
        module.add(one)
    return parser.parse_args()


def main() -> int:
    args = arguments()
    if args.repeat < 1:
        raise ValueError(f"--repeat {args.repeat}: at least 1")
    return int(args.run(args))


if __name__ == "__main__":
    sys.exit(ended_well(main))
