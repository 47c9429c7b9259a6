"""The evaluation phase of a study alone: scores what is trained and not yet scored.

examples:
  python jobs/evaluate.py --study quickstart
  python jobs/evaluate.py --study qwen-small --models qwen2.5-coder-0.5b
"""

import sys

from cli import exit_status, lock_study, plan_phase, report_failures

from engine.cluster import session


def main() -> int:
    planned, ledger, max_gpus = plan_phase(__doc__)
    from engine import pipeline, results

    with lock_study(planned, ledger) as (sound, unreadable):
        with session.running(max_gpus):
            pipeline.prepare(sound, ledger)
            failures = pipeline.evaluate(sound, ledger)
        failures += results.collect(ledger)
    return report_failures(unreadable + failures)


if __name__ == "__main__":
    sys.exit(exit_status(main))
