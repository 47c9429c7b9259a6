"""Laws fitted to points: the search, how sure a fit is, which form predicts best, and what a fit is used for.

It starts at numbers (`problem`, `solver`, `fit`, `uncertainty`, `selection`) and ends at plain data per group of a
table (`record`, `table`), which `jobs/fit.py` writes. It imports `laws` only.
"""
