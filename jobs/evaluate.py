"""The evaluation phase of a study alone: scores what is trained and not yet scored.

examples:
  python jobs/evaluate.py --study quickstart
  python jobs/evaluate.py --study qwen-small --models qwen2.5-coder-0.5b
"""

import sys

from common import ended_well, phase_study, tell


def main() -> int:
    planned, store, _ = phase_study(__doc__)
    from engine import cluster

    with cluster.running():
        from engine import pipeline, results

        pipeline.prepare(planned, store)
        trained = [p for p in planned if store.exists(f"{p.path}/trained.json")]
        failures = pipeline.evaluate(trained, store)
        results.collect(store)
    return tell(failures)


if __name__ == "__main__":
    sys.exit(ended_well(main))
