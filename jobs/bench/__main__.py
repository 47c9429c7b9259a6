"""Benchmarks: each measures a ratio against another tool on the same work, in one run, and compares it with its goal.

Contenders run in processes of their own, in turns; the median of --repeat runs counts. Let nothing else run.

examples:
  python jobs/bench selfplay --out selfplay.json
  python jobs/bench selfplay --against ray-data-llm
  python jobs/bench finetune --model qwen2.5-coder-0.5b
  python jobs/bench evaluate --separate 2
"""

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parents[1])  # jobs/, where `cli` is; Python puts this folder there

from cli import check_out, exit_status  # noqa: E402

from bench import evaluate, finetune, selfplay  # noqa: E402
from engine import UserError  # noqa: E402

# name: module, what it compares, examples, how often it is repeated
BENCHMARKS: dict[str, tuple[Any, str, str, int]] = {
    "selfplay": (
        selfplay,
        "New tokens per second of self-play over bare vLLM's and transformers', engine start apart; or, against "
        "ray-data-llm, seconds of the whole phase.",
        "selfplay\n  python jobs/bench selfplay --against ray-data-llm --repeat 1",
        2,
    ),
    "finetune": (
        finetune,
        "Trained tokens per second of the fine-tuning loop over TRL's SFTTrainer (extra `bench`), first step apart.",
        "finetune\n  python jobs/bench finetune --pool runs/quickstart/pools/events-paraphrase-smollm2-135m-t0.4-m128",
        3,
    ),
    "evaluate": (
        evaluate,
        "Seconds to score 8 adapters on one engine per adapter over all 8 on one engine, from process start on.",
        "evaluate\n  python jobs/bench evaluate --separate 2 --out evaluate.json",
        1,
    ),
}


def arguments() -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python jobs/bench", description=__doc__, formatter_class=raw)
    commands = parser.add_subparsers(dest="benchmark", required=True)
    for name, (module, purpose, example, repeat) in BENCHMARKS.items():
        epilog = f"examples:\n  python jobs/bench {example}"
        one = commands.add_parser(name, help=purpose, description=purpose, epilog=epilog, formatter_class=raw)
        one.add_argument("--model", default="smollm2-135m", help="(default: %(default)s)")
        one.add_argument("--device", choices=["cpu", "gpu"], help="default: gpu where there is one")
        one.add_argument("--repeat", type=int, default=repeat, help="runs of each contender (default: %(default)s)")
        one.add_argument("--out", metavar="FILE", help="write all numbers there as JSON")
        module.add(one)
    return parser.parse_args()


def main() -> int:
    args = arguments()
    check_out(args.out)
    if args.repeat < 1:
        raise UserError(f"--repeat {args.repeat}: at least 1")
    return int(args.run(args))


if __name__ == "__main__":
    sys.exit(exit_status(main))
