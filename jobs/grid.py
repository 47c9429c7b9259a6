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

from common import ended_well, planned_study, study_parser, tell, terminal

from engine import plan, tables
from engine.cost import Device
from engine.plan import Planned
from engine.store import Store


def arguments() -> argparse.Namespace:
    parser = study_parser(__doc__)
    parser.add_argument("--plan", action="store_true", help="start nothing; show what is done, to do, and its price")
    parser.add_argument("--max-trials", type=int, metavar="N", help="at most so many of the trials to do")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    planned, store = planned_study(args)
    if args.plan:
        terminal().print(tables.plan_table(planned))
        return 0
    plan.refuse_stale(planned, store)
    todo = [p for p in planned if p.state != "done"][: args.max_trials]
    if not todo:
        print(f"Nothing to do: all {len(planned)} trials are done.")
        show_results(store)
        return 0
    return run(todo, store, args.device)


def run(todo: Sequence[Planned], store: Store, device: Device | None) -> int:
    from engine import cluster

    began = time.monotonic()
    print(f"{len(todo)} trials to do, into {store.root}/", flush=True)
    with cluster.running():
        from engine import pipeline

        failures = pipeline.run(todo, store, plan.this_machine(device))
    show_results(store)
    minutes = (time.monotonic() - began) / 60
    print(f"{len(todo) - len(failures)} trials done in {minutes:.1f} min, {len(failures)} failed.")
    return tell(failures)


def show_results(store: Store) -> None:
    from analysis.summary import result_table

    if store.exists("results/trials.parquet"):
        terminal().print(result_table(store.read_table("results/trials.parquet")))
        print(f"Results: {store.root}/results/trials.parquet and questions.parquet")


if __name__ == "__main__":
    sys.exit(ended_well(main))
