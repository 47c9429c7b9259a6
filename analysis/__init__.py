"""Scaling laws: forms, fits, how sure they are, which form to believe. Imports nothing of the engine."""

from analysis import accuracy_laws, loss_laws

__all__ = ["accuracy_laws", "loss_laws"]  # imported first, so that every form is known
