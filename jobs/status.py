"""Says how far a study is, from its files: on any machine that sees the storage, whether a run is on or not.

examples:
  python jobs/status.py runs/quickstart
  python jobs/status.py s3://bucket/runs/newnews --follow
  python jobs/status.py s3://bucket/runs/newnews --cluster clusters/aws.yaml
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence

from cli import PRICES, exit_status, terminal
from rich.table import Table
from tables import duration, total

from engine import UserError
from engine.cluster import files, rates
from engine.cluster.files import NodeGroup
from engine.cluster.rates import Rates
from engine.monitor import spending
from engine.monitor.lines import describe
from engine.monitor.spending import Cost
from engine.storage.ledger import Ledger
from engine.storage.records import Failure, Progress, Trained
from engine.storage.store import Store

EVERY_S = 10.0
OLD_S = 60.0  # a run that is alive writes its progress every few seconds
MOST = 20  # lines of a list


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", metavar="STUDY_DIR", help="STORAGE/STUDY: a folder or an object-store address")
    parser.add_argument("--cluster", metavar="FILE", help="the cluster's file, for the money so far; see clusters/")
    parser.add_argument("--prices", metavar="FILE", help="with --cluster: price table (default: clusters/prices.yaml)")
    parser.add_argument("--follow", action="store_true", help=f"again every {EVERY_S:.0f} s, until all is done")
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()
    if args.prices and not args.cluster:
        raise UserError(f"--prices {args.prices}: money is counted for a cluster's file only; add --cluster FILE")
    groups = files.read(args.cluster) if args.cluster else []
    table = rates.read(args.prices or str(PRICES)) if args.cluster else None
    ledger = Ledger(Store(args.study))
    while show(ledger, groups, table) and args.follow:
        time.sleep(EVERY_S)
        print()
    return 0


def show(ledger: Ledger, groups: Sequence[NodeGroup], prices: Rates | None) -> bool:
    """Prints everything; is anything left to do? Raises UserError if there is no study."""
    states = ledger.reached()
    if not states:
        raise UserError(f"{ledger.store.root}: no trial was begun there; give STORAGE/STUDY, such as runs/quickstart")
    counts = ", ".join(f"{n} {state}" for state, n in sorted(Counter(states.values()).items()))
    print(f"{ledger.store.root}: {len(states)} trials begun: {counts}")
    show_running(ledger.progress())
    terminal().print(hours_table(ledger))
    if costs := spending.price(ledger.spent().node_hours, groups, prices):
        terminal().print(spent_table(costs, prices))
    show_failures(list(filter(None, map(ledger.failure, states))))
    return set(states.values()) != {"done"}


def show_running(now: Progress | None) -> None:
    """The phase that runs, and what is worked on where."""
    if now is None:
        print("No phase runs.")
        return
    age = time.time() - now.at
    print(describe(now) + (f" | seen {duration(age)} ago: its run may have died" if age > OLD_S else ""))
    for name, machine in list(now.at_work.items())[:MOST]:
        print(f"  {machine}: {name}")
    if len(now.at_work) > MOST:
        print(f"  … and {len(now.at_work) - MOST} more")


def hours_table(ledger: Ledger) -> Table:
    """Fine-tuning as it was estimated beside what it took, by trainee."""
    table = Table(title="Fine-tuning of the trials that are trained", title_justify="left")
    for name in ("trainee", "trials", "estimated, with starts", "trained for", "devices"):
        table.add_column(name, justify="left" if name == "trainee" else "right")
    by_trainee: dict[str, list[Trained]] = {}
    estimated: Counter[str] = Counter()
    for trial, trained in ledger.all_trained():
        by_trainee.setdefault(trial.trainee, []).append(trained)
        estimated[trial.trainee] += round(ledger.begun(trial.key).estimate.seconds)
    for trainee, all_trained in sorted(by_trainee.items()):
        took, devices = sum(t.train_seconds for t in all_trained), {t.device_name for t in all_trained}
        hours = duration(estimated[trainee]), duration(took)
        table.add_row(trainee, str(len(all_trained)), *hours, ", ".join(sorted(devices)))
    return table


def spent_table(costs: Sequence[Cost], prices: Rates | None) -> Table:
    """Hours of nodes so far, and their money where a price is known."""
    table = Table(title="Nodes that were up while phases ran", title_justify="left")
    table.add_column("one node has")
    for name in ("node-hours", *([f"all on spot, {prices.currency}", "all on demand"] if prices else [])):
        table.add_column(name, justify="right")
    for cost in costs:
        table.add_row(cost.kind, f"{cost.hours:,.1f}", *map(cents, (cost.spot, cost.on_demand) if prices else ()))
    if prices:
        sums = total(cost.spot for cost in costs), total(cost.on_demand for cost in costs)
        table.add_row("all that has a price", "", *map(cents, sums))
    return table


def cents(amount: float | None) -> str:
    return "no price" if amount is None else f"{amount:,.2f}"


def show_failures(failures: Sequence[Failure]) -> None:
    """Why trials failed, and where their logs are."""
    for failure in failures[:MOST]:
        print(f"FAILED {failure.key} ({failure.phase}): {failure.reason}")
        if failure.logs:
            print(f"    logs: {failure.logs}")
    if len(failures) > MOST:
        print(f"… and {len(failures) - MOST} more")


if __name__ == "__main__":
    sys.exit(exit_status(main))
