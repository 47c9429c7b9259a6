"""The third phase: what is asked of a model, how its answers are marked, and the engine that gives them.

`harness.py` runs public benchmarks by lm-evaluation-harness instead."""
