"""The results of a study: accuracy per news item, differences between arms, the test for one curve.

It takes the results tables that `jobs/grid.py` writes, and fits laws to them with `fits`.
"""
