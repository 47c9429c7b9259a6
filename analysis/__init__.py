"""Scaling laws: forms, fits, how sure they are, which form to believe. Imports nothing of the engine.

`analysis/README.md` shows the use of it.
"""

from analysis import accuracy_laws, loss_laws  # imported first, so that every form is known
from analysis.fitting import Fit, fit
from analysis.laws import LAWS, find, law
from analysis.problem import BadValues, FitError, NoVariation, Points, TooFewPoints
from analysis.selection import compare
from analysis.uncertainty import Member, bootstrap, intervals, mixed_intervals

__all__ = [
    "LAWS",
    "BadValues",
    "Fit",
    "FitError",
    "Member",
    "NoVariation",
    "Points",
    "TooFewPoints",
    "accuracy_laws",
    "bootstrap",
    "compare",
    "find",
    "fit",
    "intervals",
    "law",
    "loss_laws",
    "mixed_intervals",
]
