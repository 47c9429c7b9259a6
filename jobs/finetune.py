"""The fine-tuning phase of a study alone: trains what is not trained, from pools that are written.

examples:
  python jobs/finetune.py --study quickstart
  python jobs/finetune.py --study qwen-small --domains events --protocols naive
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
        from engine import pipeline

        pipeline.prepare(planned, store)
        failures = pipeline.fine_tune(planned, store)
    for failure in failures:
        print(f"FAILED {failure.key}: {failure.reason}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(ended_well(main))
