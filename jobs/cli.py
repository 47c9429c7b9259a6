"""What the jobs share: the arguments and the plan of a study, checks of output files, how errors end a job."""

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from engine import UserError
from engine.cluster import machines, reach, session
from engine.cluster.machines import Cluster, Device
from engine.monitor import trackers
from engine.planning import plan, room, shipped
from engine.storage.ledger import Ledger
from engine.storage.records import Failure, Planned
from engine.storage.store import Store
from engine.study import narrow

PRICES = Path(__file__).parents[1] / "clusters" / "prices.yaml"
INTERRUPTED = 128 + signal.SIGINT  # exit status, by the convention of shells


def study_parser(doc: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", required=True, help=f"{', '.join(shipped.STUDIES)}, or my_study.py:function")
    parser.add_argument("--storage", default="runs", help="folder or object-store address (default: %(default)s)")
    parser.add_argument("--news", help="JSON Lines file of your own news, in place of the study's")
    parser.add_argument("--models", nargs="+", metavar="NAME", help="only these trainees")
    parser.add_argument("--domains", nargs="+", metavar="NAME", help="only these domains")
    parser.add_argument("--protocols", nargs="+", metavar="NAME", help="only these protocols")
    parser.add_argument("--budgets", nargs="+", type=int, metavar="N", help="only these budgets (elements per item)")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="N", help="only these seeds")
    parser.add_argument(
        "--device", choices=["cpu", "gpu"], help="default: gpu if this machine, or the cluster, has one"
    )
    parser.add_argument("--track", choices=list(trackers.TRACKERS), help="send each trial's numbers there, too")
    parser.add_argument(
        "--max-gpus", type=int, default=0, metavar="N", help="GPUs to which the cluster's autoscaler may grow it"
    )
    return parser


def find_cluster(device: Device | None, max_gpus: int = 0, may_grow: bool = True) -> Cluster:
    """What the cluster has that RAY_ADDRESS or a submitted job names; else what this machine has. Raises UserError.

    `may_grow`: whether a cluster without any GPU yet may be asked for its first.
    """
    if session.cluster_address() is None:
        return machines.this_machine(device)
    with session.running(max_gpus):
        return reach.describe_cluster(device, max_gpus, may_grow)


def plan_study(
    args: argparse.Namespace, may_grow: bool = True, cluster: Cluster | None = None
) -> tuple[list[Planned], Ledger]:
    """The plan of the study that the arguments name, and its ledger. Raises UserError.

    It is planned for a cluster that is given, else for the one that is there.
    """
    study = shipped.load(args.study)
    study = replace(study, news=args.news or study.news)
    study = narrow(
        study, trainee=args.models, domain=args.domains, protocol=args.protocols, budget=args.budgets, seed=args.seeds
    )
    check_storage(args.storage)
    trackers.choose(args.track)
    ledger = Ledger(Store(f"{args.storage.rstrip('/')}/{study.name}"))
    cluster = cluster or find_cluster(args.device, args.max_gpus, may_grow)
    return plan.plan(study, ledger, cluster), ledger


def check_storage(storage: str) -> None:
    """Raises UserError for a folder that a submitted job would leave in its copy of the working directory."""
    if session.is_submitted() and "://" not in storage and not os.path.isabs(storage):
        raise UserError(
            f"--storage {storage}: a submitted job runs in a copy of its folder, which is removed; "
            "give an absolute path that all machines share, or an address such as s3://bucket/runs"
        )


def plan_phase(doc: str | None) -> tuple[list[Planned], Ledger, int]:
    """For a job that is one phase: what its command line plans, unless some of it is stale; and `--max-gpus`."""
    args = study_parser(doc).parse_args()
    planned, ledger = plan_study(args)
    plan.refuse_stale(planned, ledger)
    return planned, ledger, args.max_gpus


@contextmanager
def lock_study(
    planned: Sequence[Planned], ledger: Ledger, max_trials: int | None = None
) -> Iterator[tuple[list[Planned], list[Failure]]]:
    """The study for this job alone, with room for what it writes: the trials that can be read, and those that cannot.

    Their states are read again, since another run may have changed them. Raises UserError.
    """
    ledger.store.check_writable()
    with ledger.lock():
        now = plan.read_states(planned, ledger)
        plan.refuse_stale(now, ledger)
        sound = [p for p in now if p.state != "damaged"]
        room.check([p for p in sound if p.state != "done"][:max_trials], ledger.store)
        yield sound, unreadable_trials(now)


def unreadable_trials(planned: Sequence[Planned]) -> list[Failure]:
    """The trials whose files cannot be read, as failures."""
    faults = {p.trial.key: "\n    ".join(p.differs) for p in planned if p.state == "damaged"}
    return [Failure(key=key, phase="storage", reason=reason) for key, reason in faults.items()]


def report_failures(failures: Sequence[Failure]) -> int:
    """Prints the trials that failed, each with its first reason; gives the job's exit status."""
    by_key: dict[str, Failure] = {}
    for failure in failures:
        by_key.setdefault(failure.key, failure)
    for failure in by_key.values():
        print(f"FAILED {failure.key} ({failure.phase}): {failure.reason}", file=sys.stderr)
        if failure.logs:
            print(f"    logs: {failure.logs}", file=sys.stderr)
    return 1 if failures else 0


def check_out(path: str | None) -> None:
    """Raises UserError before any work if a file could not be written there after it."""
    if path and not Path(path).absolute().parent.is_dir():
        raise UserError(f"--out {path}: there is no folder {Path(path).absolute().parent}; make it first")


def exit_status(job: Callable[[], int], *more_errors: type[Exception]) -> int:
    """Runs the job. What its user can fix (`more_errors` too) is printed in plain words, with status 2.

    Ctrl-C ends the job with status 130, and says what to do; a second one ends it at once.
    """
    errors: tuple[type[Exception], ...] = (UserError, *more_errors)
    signal.signal(signal.SIGINT, interrupt)
    try:
        return job()
    except errors as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nInterrupted. Everything that was finished is kept; nothing is marked as failed.", file=sys.stderr)
        print(f"To continue, run it again: {shlex.join(['python', *sys.argv])}", file=sys.stderr)
        return INTERRUPTED


def interrupt(*_: object) -> None:
    """The first Ctrl-C lets everything end that has been started; the next one does not wait for it."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    raise KeyboardInterrupt


def terminal() -> Console:
    """A console as wide as the terminal; in a log, wide enough for the tables."""
    return Console(width=None if sys.stdout.isatty() else 120)
