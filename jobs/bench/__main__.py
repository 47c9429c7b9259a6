"""Benchmarks: speed as a ratio to another tool on the same work, in one run, compared with its goal; quality of fits.

Contenders run in processes of their own, in turns; the median of --repeat runs counts. Let nothing else run.

examples:
  python jobs/bench selfplay --out selfplay.json
  python jobs/bench selfplay --against ray-data-llm
  python jobs/bench finetune --model qwen2.5-coder-0.5b
  python jobs/bench evaluate --separate 2
  python jobs/bench driver --share 0.1
  python jobs/bench fits --laws additive rectified --draws 50
"""

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parents[1])  # jobs/, where `cli` is; Python puts this folder there

from cli import check_out, exit_status  # noqa: E402

from analysis.errors import FitError  # noqa: E402
from bench import driver, evaluate, finetune, fits, memory, parity, selfplay  # noqa: E402

# name: module, what it measures, examples
BENCHMARKS: dict[str, tuple[Any, str, str]] = {
    "selfplay": (
        selfplay,
        "New tokens per second of self-play over bare vLLM's and transformers', engine start apart; or, against "
        "ray-data-llm, seconds of the whole phase.",
        "selfplay\n  python jobs/bench selfplay --against ray-data-llm --repeat 1",
    ),
    "finetune": (
        finetune,
        "Trained tokens per second of the fine-tuning loop over TRL's SFTTrainer (extra `bench`), first step apart.",
        "finetune\n  python jobs/bench finetune --pool runs/quickstart/pools/events-paraphrase-smollm2-135m-t0.4-m128",
    ),
    "evaluate": (
        evaluate,
        "Seconds to score 8 adapters on one engine per adapter over all 8 on one engine, from process start on.",
        "evaluate --against lm-eval\n  python jobs/bench evaluate --separate 2 --out evaluate.json",
    ),
    "parity": (
        parity,
        "Losses and log-likelihoods in bfloat16 on this device against float32 on the CPU: are they the same model's?",
        "parity\n  python jobs/bench parity --device cpu --out parity.json",
    ),
    "memory": (
        memory,
        "Peak memory of training steps on a GPU over what is planned, and tokens per second, on random weights.",
        "memory\n  python jobs/bench memory --models qwen2.5-7b --steps 10",
    ),
    "driver": (
        driver,
        "Seconds to plan, read and collect all 1,960 trials of `newnews` from a made store, and the memory it takes.",
        "driver\n  python jobs/bench driver --share 0.1",
    ),
    "fits": (
        fits,
        "Law by law: do the fits recover the parameters that made the data, and do their intervals contain them?",
        "fits\n  python jobs/bench fits --laws additive rectified --draws 50 --out fits.json",
    ),
}


def parse_arguments() -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python jobs/bench", description=__doc__, formatter_class=raw)
    commands = parser.add_subparsers(dest="benchmark", required=True)
    for name, (module, purpose, example) in BENCHMARKS.items():
        epilog = f"examples:\n  python jobs/bench {example}"
        one = commands.add_parser(name, help=purpose, description=purpose, epilog=epilog, formatter_class=raw)
        one.add_argument("--out", metavar="FILE", help="write all numbers there as JSON")
        module.add(one)
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()
    check_out(args.out)
    return int(args.run(args))


if __name__ == "__main__":
    sys.exit(exit_status(main, FitError))
