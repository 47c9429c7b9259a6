"""Runs a study, domain × protocol × size, from news to results table; what is done is not done again.

examples:
  python jobs/grid.py --study quickstart
  python jobs/grid.py --study newnews --device gpu --plan
  python jobs/grid.py --study qwen-small --models qwen2.5-coder-0.5b --domains events --protocols paraphrase
  ray job submit --working-dir . -- python jobs/grid.py --study my_study.py:mine --storage s3://bucket/runs
"""

import argparse
import sys
import time
from collections.abc import Sequence

from cli import exit_status, plan_study, report_failures, study_parser, terminal
from tables import plan_table

from engine.cluster import session
from engine.planning import plan
from engine.storage.ledger import Ledger
from engine.storage.records import Planned


def arguments() -> argparse.Namespace:
    parser = study_parser(__doc__)
    parser.add_argument("--plan", action="store_true", help="start nothing; show what is done, to do, and its price")
    parser.add_argument("--max-trials", type=int, metavar="N", help="at most so many of the trials to do")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    planned, ledger = plan_study(args)
    if args.plan:
        terminal().print(plan_table(planned))
        return 0
    plan.refuse_stale(planned, ledger)
    todo = [p for p in planned if p.state != "done"][: args.max_trials]
    if not todo:
        print(f"Nothing to do: all {len(planned)} trials are done.")
        show_results(ledger)
        return 0
    return run(todo, ledger)


def run(todo: Sequence[Planned], ledger: Ledger) -> int:
    from engine import pipeline  # imports Ray, which a plan does without

    began = time.monotonic()
    print(f"{len(todo)} trials to do, into {ledger.store.root}/", flush=True)
    with session.running():
        failures = pipeline.run(todo, ledger)
    show_results(ledger)
    minutes = (time.monotonic() - began) / 60
    print(f"{len(todo) - len(failures)} trials done in {minutes:.1f} min, {len(failures)} failed.")
    return report_failures(failures)


def show_results(ledger: Ledger) -> None:
    from analysis.study.summary import result_table  # imports the fits, which a plan does without

    if ledger.has_results():
        trials, _ = ledger.results()
        terminal().print(result_table(trials))
        print(f"Results: {ledger.results_address()}")


if __name__ == "__main__":
    sys.exit(exit_status(main))
