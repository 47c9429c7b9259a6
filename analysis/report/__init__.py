"""The page that shows the results of a study: its words and tables (`page`), its figures, and its template.

It is the last room: it imports `study` and `fits`, and nothing in `analysis` imports it.
"""
