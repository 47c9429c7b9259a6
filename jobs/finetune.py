"""The fine-tuning phase of a study alone: trains what is not trained, from pools that are written.

examples:
  python jobs/finetune.py --study quickstart
  python jobs/finetune.py --study qwen-small --domains events --protocols naive
"""

import sys

from cli import exit_status, lock_study, plan_phase, report_failures

from engine.cluster import session


def main() -> int:
    planned, ledger, max_gpus = plan_phase(__doc__)
    from engine import pipeline

    with lock_study(planned, ledger) as (sound, unreadable), session.running(max_gpus):
        pipeline.prepare(sound, ledger)
        failures = pipeline.fine_tune(sound, ledger)
    return report_failures(unreadable + failures)


if __name__ == "__main__":
    sys.exit(exit_status(main))
