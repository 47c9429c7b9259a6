"""What the jobs over a study share: its arguments, its plan, and how errors end a job."""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

from rich.console import Console

from engine import plan, studies
from engine.architecture import ModelError
from engine.cost import Device
from engine.news import NewsError
from engine.plan import Failure, Planned, Refused
from engine.store import Store
from engine.study import narrow


def study_parser(doc: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", required=True, help=f"{', '.join(studies.STUDIES)}, or my_study.py:function")
    parser.add_argument("--storage", default="runs", help="folder or object-store address (default: %(default)s)")
    parser.add_argument("--news", help="JSON Lines file of your own news, in place of the study's")
    parser.add_argument("--models", nargs="+", metavar="NAME", help="only these trainees")
    parser.add_argument("--domains", nargs="+", metavar="NAME", help="only these domains")
    parser.add_argument("--protocols", nargs="+", metavar="NAME", help="only these protocols")
    parser.add_argument("--budgets", nargs="+", type=int, metavar="N", help="only these budgets (elements an item)")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="N", help="only these seeds")
    parser.add_argument(
        "--device", choices=["cpu", "gpu"], help="default: gpu if this machine has one; say it on a cluster"
    )
    return parser


def planned_study(args: argparse.Namespace) -> tuple[list[Planned], Store]:
    """The plan of the study that the arguments name, and its store. Raises what `ended_well` reports."""
    study = studies.load(args.study)
    study = replace(study, news=args.news or study.news)
    study = narrow(
        study, trainee=args.models, domain=args.domains, protocol=args.protocols, budget=args.budgets, seed=args.seeds
    )
    store = Store(f"{args.storage.rstrip('/')}/{study.name}")
    return plan.plan(study, store, plan.this_machine(args.device)), store


def phase_study(doc: str | None) -> tuple[list[Planned], Store, Device | None]:
    """For a job that is one phase: what its command line plans, unless some of it is stale."""
    args = study_parser(doc).parse_args()
    planned, store = planned_study(args)
    plan.refuse_stale(planned, store)
    return planned, store, args.device


def tell(failures: Sequence[Failure]) -> int:
    """Lists the trials that failed; the job's exit status."""
    for failure in failures:
        print(f"FAILED {failure.key}: {failure.reason}", file=sys.stderr)
    return 1 if failures else 0


def ended_well(job: Callable[[], int]) -> int:
    """The job's exit status; what its user can mend is told in plain words, with status 2."""
    try:
        return job()
    except (Refused, NewsError, ModelError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2


def terminal() -> Console:
    """A console as wide as the terminal; in a log, wide enough for the tables."""
    return Console(width=None if sys.stdout.isatty() else 120)
