"""The evaluation phase of a study alone: scores what is trained and not yet scored.

examples:
  python jobs/evaluate.py --study quickstart
  python jobs/evaluate.py --study qwen-small --models qwen2.5-coder-0.5b
"""

import sys

from common import ended_well, planned_study, study_parser

from engine import plan


def main() -> int:
    args = study_parser(__doc__).parse_args()
    planned, store = planned_study(args)
    plan.refuse_stale(planned, store)
    from engine import cluster

    with cluster.running():
        from engine import pipeline, results

        pipeline.prepare(planned, store)
        trained = [p for p in planned if store.exists(f"{p.path}/trained.json")]
        failures = pipeline.evaluate(trained, store)
        results.collect(store)
    for failure in failures:
        print(f"FAILED {failure.key}: {failure.reason}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(ended_well(main))
