"""What the results tables of a study say: accuracy per news item, differences between arms, one curve for all sizes.

It reads the tables that `jobs/grid.py` writes, and fits laws to them by means of `fits`.
"""
