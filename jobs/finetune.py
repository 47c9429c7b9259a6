"""The fine-tuning phase of a study alone: trains what is not trained, from pools that are written.

examples:
  python jobs/finetune.py --study quickstart
  python jobs/finetune.py --study qwen-small --domains events --protocols naive
"""

import sys

from common import ended_well, phase_study, tell


def main() -> int:
    planned, store, _ = phase_study(__doc__)
    from engine import cluster

    with cluster.running():
        from engine import pipeline

        pipeline.prepare(planned, store)
        failures = pipeline.fine_tune(planned, store)
    return tell(failures)


if __name__ == "__main__":
    sys.exit(ended_well(main))
