"""Runs a study, domain × protocol × size, from news to results table; what is done is not done again.

examples:
  python jobs/grid.py --study quickstart
  python jobs/grid.py --study newnews --device gpu --plan
  python jobs/grid.py --study newnews --plan --cluster clusters/aws.yaml
  python jobs/grid.py --study qwen-small --models qwen2.5-coder-0.5b --domains events --protocols paraphrase
  ray job submit --working-dir . -- python jobs/grid.py --study my_study.py:mine --storage s3://bucket/runs
"""

import argparse
import sys
import time
from collections.abc import Sequence

from cli import PRICES, exit_status, lock_study, plan_study, report_failures, study_parser, terminal, unreadable_trials
from tables import duration, money_table, plan_table, price_table, work_table

from engine import UserError, results
from engine.cluster import files, rates, session
from engine.planning import costs, estimate, plan, room
from engine.storage.ledger import Ledger
from engine.storage.records import Failure, Planned, RecordError


def arguments() -> argparse.Namespace:
    parser = study_parser(__doc__)
    parser.add_argument("--plan", action="store_true", help="start nothing; show what is done, to do, and its price")
    parser.add_argument("--cluster", metavar="FILE", help="with --plan: for the cluster of this file; see clusters/")
    parser.add_argument("--prices", metavar="FILE", help="with --cluster: price table (default: clusters/prices.yaml)")
    parser.add_argument("--max-trials", type=int, metavar="N", help="at most so many of the trials to do")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    check_cluster_options(args)
    if args.cluster:
        return show_costs(args)
    planned, ledger = plan_study(args, may_grow=not args.plan)
    if args.plan:
        return show_plan(planned, ledger)
    plan.refuse_stale(planned, ledger)
    if all(p.state == "done" for p in planned) and results.is_current(ledger):  # storage may be read-only
        print(f"Nothing to do: all {len(planned)} trials are done.")
        show_results(ledger)
        return 0
    with lock_study(planned, ledger, args.max_trials) as (sound, unreadable):
        todo = [p for p in sound if p.state != "done"][: args.max_trials]
        failures = run(todo, ledger, args.max_gpus) if todo else collect(sound, ledger)
    return report_failures(unreadable + failures)


def check_cluster_options(args: argparse.Namespace) -> None:
    """Raises UserError for options that would not be heeded."""
    if args.cluster and not args.plan:
        raise UserError("--cluster only plans: add --plan. A run uses the cluster that it is submitted to")
    if args.cluster and (args.device or args.max_gpus):
        raise UserError(f"--cluster {args.cluster}: the file says what the nodes are; leave out --device, --max-gpus")
    if args.prices and not args.cluster:
        raise UserError(f"--prices {args.prices}: money is counted for a cluster's file only; add --cluster FILE")


def show_costs(args: argparse.Namespace) -> int:
    """What is done, what remains, and what that costs on the cluster of a file."""
    groups, table = files.read(args.cluster), rates.read(args.prices or str(PRICES))
    planned, ledger = plan_study(args, cluster=files.describe_cluster(groups, args.cluster))
    expected = costs.count(planned, groups, table, estimate.measured_speeds(ledger))
    terminal().print(plan_table(planned), work_table(expected), money_table(expected, table))
    n_gpus = sum(group.n_devices for group in groups)
    print(
        f"time: at least {duration(expected.hours * 3600)}, on all nodes that the cluster may have: --max-gpus {n_gpus}"
    )
    print(f"prices: {args.prices or 'clusters/prices.yaml'}; storage and traffic are not counted")
    print("Each row is counted on the instance where it costs least; a run takes any nodes that hold it, so it may be")
    print("faster and cost more. All hours come from calculation: expect a factor of two.")
    print(room.describe(planned, ledger.store))
    return report_failures(unreadable_trials(planned))


def show_plan(planned: Sequence[Planned], ledger: Ledger) -> int:
    """What is done, what remains, what it costs, and what cannot be read."""
    terminal().print(plan_table(planned), price_table(planned))
    print(room.describe(planned, ledger.store))
    return report_failures(unreadable_trials(planned))


def run(todo: Sequence[Planned], ledger: Ledger, max_gpus: int) -> list[Failure]:
    """Does what is to do; gives the trials that failed or cannot be read."""
    from engine import pipeline  # imports Ray, which a plan does without

    began = time.monotonic()
    print(f"{len(todo)} trials to do, into {ledger.store.root}/", flush=True)
    with session.running(max_gpus):
        failures = pipeline.run(todo, ledger)
    show_results(ledger)
    minutes, n_failed = (time.monotonic() - began) / 60, len({f.key for f in failures} & {p.trial.key for p in todo})
    print(f"{len(todo) - n_failed} trials done in {minutes:.1f} min, {n_failed} failed.")
    return failures


def collect(planned: Sequence[Planned], ledger: Ledger) -> list[Failure]:
    """Makes the results tables again; gives the trials that cannot be read."""
    failures = results.collect(ledger)
    n_done = sum(p.state == "done" for p in planned)
    print(f"Nothing to run: {n_done} of {len(planned)} trials are done. The results tables are made again.")
    show_results(ledger)
    return failures


def show_results(ledger: Ledger) -> None:
    """Prints the results, unless nothing is done that could be read."""
    from analysis.study.summary import result_table  # imports the fits, which a plan does without

    try:
        trials, _ = ledger.results()
    except RecordError:
        return
    terminal().print(result_table(trials))
    print(f"Results: {ledger.results_address()}")


if __name__ == "__main__":
    sys.exit(exit_status(main))
