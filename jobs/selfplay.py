"""The self-play phase of a study alone: writes what is missing in its pools, and prints what they yielded.

examples:
  python jobs/selfplay.py --study quickstart
  python jobs/selfplay.py --study qwen-small --models qwen2.5-coder-1.5b --domains coding --protocols self_qa
"""

import sys

from cli import exit_status, lock_study, plan_phase, report_failures, terminal
from tables import yield_table

from engine.cluster import session
from engine.selfplay import pool, protocols


def main() -> int:
    planned, ledger, max_gpus = plan_phase(__doc__)
    from engine import pipeline

    with lock_study(planned, ledger) as (sound, unreadable), session.running(max_gpus):
        pipeline.prepare(sound, ledger)
        failures = pipeline.self_play(sound, ledger)
    pools = {p.trial.pool: protocols.find(p.trial.protocol) for p in sound}
    generated = {name: protocol for name, protocol in pools.items() if protocol.write}
    yields = {name: pool.yields(ledger, name, protocol) for name, protocol in generated.items()}
    terminal().print(yield_table(yields))
    return report_failures(unreadable + failures)


if __name__ == "__main__":
    sys.exit(exit_status(main))
