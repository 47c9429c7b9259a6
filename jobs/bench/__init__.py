"""The benchmarks: ratios against other tools on the same work, in one run."""
