"""The page with the results of a study: its sentences and tables (`page`), its figures, and its template.

It is the last room: it imports `study` and `fits`, and nothing in `analysis` imports it.
"""
