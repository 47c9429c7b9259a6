"""Runs a study, domain × protocol × size, from news to results table; what is done is not done again.

examples:
  python jobs/grid.py --study quickstart
  python jobs/grid.py --study newnews --device gpu --plan
  python jobs/grid.py --study qwen-small --models qwen2.5-coder-0.5b --domains events --protocols paraphrase
  ray job submit --working-dir . -- python jobs/grid.py --study my_study.py:mine --storage s3://bucket/runs
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console

from engine import plan, studies, tables
from engine.architecture import ModelError
from engine.news import NewsError
from engine.plan import Planned, Refused
from engine.store import Store
from engine.study import narrow


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", required=True, help=f"{', '.join(studies.STUDIES)}, or my_study.py:function")
    parser.add_argument("--plan", action="store_true", help="start nothing; show what is done, what is to do and its price")
    parser.add_argument("--storage", default="runs", help="folder or object-store address (default: %(default)s)")
    parser.add_argument("--news", help="JSON Lines file of your own news, in place of the study's")
    parser.add_argument("--models", nargs="+", metavar="NAME", help="only these trainees")
    parser.add_argument("--domains", nargs="+", metavar="NAME", help="only these domains")
    parser.add_argument("--protocols", nargs="+", metavar="NAME", help="only these protocols")
    parser.add_argument("--budgets", nargs="+", type=int, metavar="N", help="only these budgets (elements an item)")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="N", help="only these seeds")
    parser.add_argument("--max-trials", type=int, metavar="N", help="at most so many of the trials to do")
    parser.add_argument("--device", choices=["cpu", "gpu"], help="default: gpu where there is one")
    return parser.parse_args()


def main() -> int:
    args, console = arguments(), Console(width=None if sys.stdout.isatty() else 120)
    try:
        planned, store = planned_study(args)
        if args.plan:
            console.print(tables.plan_table(planned))
            return 0
        plan.refuse_stale(planned, store)
        todo = [p for p in planned if p.state != "done"][: args.max_trials]
        return run(todo, store, console, args) if todo else nothing_to_do(planned, store, console)
    except (Refused, NewsError, ModelError, ValueError) as error:
        print(f"{error}", file=sys.stderr)
        return 2


def planned_study(args: argparse.Namespace) -> tuple[list[Planned], Store]:
    study = studies.load(args.study)
    study = replace(study, news=args.news or study.news)
    study = narrow(
        study, trainee=args.models, domain=args.domains, protocol=args.protocols, budget=args.budgets, seed=args.seeds
    )
    store = Store(f"{args.storage.rstrip('/')}/{study.name}")
    return plan.plan(study, store, plan.this_machine(args.device)), store


def nothing_to_do(planned: Sequence[Planned], store: Store, console: Console) -> int:
    console.print(f"Nothing to do: all {len(planned)} trials are done. Results: {store.root}/results/trials.parquet")
    show_results(store, console)
    return 0


def show_results(store: Store, console: Console) -> None:
    from analysis.summary import result_table

    console.print(result_table(store.read_table("results/trials.parquet")))


def run(todo: Sequence[Planned], store: Store, console: Console, args: argparse.Namespace) -> int:
    from engine import cluster, pipeline

    began = time.monotonic()
    console.print(f"{len(todo)} trials to do, into {store.root}/ (python jobs/grid.py … --plan shows them)")
    with cluster.running():
        failures = pipeline.run(todo, store, plan.this_machine(args.device))
    if store.exists("results/trials.parquet"):
        show_results(store, console)
    console.print(f"{len(todo) - len(failures)} trials done in {(time.monotonic() - began) / 60:.1f} min, {len(failures)} failed")
    for failure in failures:
        print(f"FAILED {failure.key}: {failure.reason}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    sys.exit(main())
