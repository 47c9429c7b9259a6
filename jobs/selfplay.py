"""The self-play phase of a study alone: writes what is missing in its pools, and tells what they yielded.

examples:
  python jobs/selfplay.py --study quickstart
  python jobs/selfplay.py --study qwen-small --models qwen2.5-coder-1.5b --domains coding --protocols self_qa
"""

import sys

from common import ended_well, phase_study, terminal

from engine import plan, pool, protocols, tables


def main() -> int:
    planned, store, device = phase_study(__doc__)
    from engine import cluster

    with cluster.running():
        from engine import pipeline

        pipeline.prepare(planned, store)
        pipeline.play(planned, store, plan.this_machine(device))
    written = {p.trial.pool: p.trial.protocol for p in planned if protocols.find(p.trial.protocol).write}
    found = {name: pool.yields(store, name, protocols.find(protocol)) for name, protocol in written.items()}
    terminal().print(tables.yield_table(found))
    return 0


if __name__ == "__main__":
    sys.exit(ended_well(main))
