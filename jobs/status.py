"""Says how far a study is, from its files: on any machine that sees the storage, whether a run is on or not.

examples:
  python jobs/status.py runs/quickstart
  python jobs/status.py s3://bucket/runs/newnews --follow
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence

from cli import exit_status, terminal
from rich.table import Table
from tables import duration

from engine import UserError
from engine.monitor.lines import describe
from engine.storage.ledger import Ledger
from engine.storage.records import Failure, Progress, Trained
from engine.storage.store import Store

EVERY_S = 10.0
OLD_S = 60.0  # a run that is alive writes its progress every few seconds
MOST = 20  # lines of a list


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", metavar="STUDY_DIR", help="STORAGE/STUDY: a folder or an object-store address")
    parser.add_argument("--follow", action="store_true", help=f"again every {EVERY_S:.0f} s, until all is done")
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()
    ledger = Ledger(Store(args.study))
    while show(ledger) and args.follow:
        time.sleep(EVERY_S)
        print()
    return 0


def show(ledger: Ledger) -> bool:
    """Prints everything; is anything left to do? Raises UserError if there is no study."""
    states = ledger.reached()
    if not states:
        raise UserError(f"{ledger.store.root}: no trial was begun there; give STORAGE/STUDY, such as runs/quickstart")
    counts = ", ".join(f"{n} {state}" for state, n in sorted(Counter(states.values()).items()))
    print(f"{ledger.store.root}: {len(states)} trials begun: {counts}")
    show_running(ledger.progress())
    terminal().print(hours_table(ledger))
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
    for name in ("trainee", "trials", "estimated", "took", "devices"):
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
