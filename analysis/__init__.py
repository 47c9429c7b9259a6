"""Scaling laws: forms, fits, their uncertainty, and the choice between forms. Imports nothing of the engine.

`analysis/README.md` shows how to use it.
"""

from analysis.errors import BadValues, FitError, NoVariation, TooFewPoints
from analysis.fits.fit import Fit, fit
from analysis.fits.problem import Points
from analysis.fits.selection import compare
from analysis.fits.uncertainty import Member, bootstrap, intervals, mixed_intervals
from analysis.laws import accuracy as accuracy_laws  # these two register every law
from analysis.laws import loss as loss_laws
from analysis.laws.form import LAWS, find, law

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
