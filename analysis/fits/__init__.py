"""Laws fitted to points: the search, its uncertainty, the choice between forms, and what a fit is used for.

Points come in through `problem`; plain data per group of a table go out through `group`, and `jobs/fit.py` writes them.
Of the other rooms it imports `laws` only.
"""
