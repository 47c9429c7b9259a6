"""The fine-tuning phase of a study alone: trains what is not trained, from pools that are written.

examples:
  python jobs/finetune.py --study quickstart
  python jobs/finetune.py --study qwen-small --domains events --protocols naive
"""

import sys

from cli import exit_status, plan_phase, report_failures

from engine.cluster import session


def main() -> int:
    planned, ledger = plan_phase(__doc__)
    from engine import pipeline

    with session.running():
        pipeline.prepare(planned, ledger)
        failures = pipeline.fine_tune(planned, ledger)
    return report_failures(failures)


if __name__ == "__main__":
    sys.exit(exit_status(main))
