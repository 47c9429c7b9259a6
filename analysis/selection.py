"""Which form of law do the data speak for? Judged by what each form would have predicted.

Rolling extrapolation hides the largest x, then more, fits on what is left, and measures the error on what was hidden.
AICc and BIC are told beside it: they judge the fit, not the prediction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis import laws
from analysis.fitting import Fit, fit
from analysis.laws import Law
from analysis.problem import FitError

Array = NDArray[np.float64]

HIDDEN = (0.1, 0.2, 0.3, 0.4, 0.5)  # shares of the points that are hidden in turn
SHARPNESS = 4.0  # weights fall with this power of the rolling error


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A form, its fit to all points, and how it did. `rolling` is the error of ln y; `weight` its share in the mix."""

    fit: Fit
    rolling: float
    aicc: float
    bic: float
    weight: float


def candidates(variables: Sequence[str]) -> list[Law]:
    """All registered laws of these variables."""
    return [law for law in laws.LAWS.values() if set(law.variables) == set(variables)]


def compare(
    forms: Sequence[Law], variables: Mapping[str, Array], y: Array, *, objective: str, seed: int = 0, starts: int = 24
) -> list[Candidate]:
    """The forms that can be fitted, the best predictor first. Raises FitError if there is none.

    Forms are judged on the splits that all of them can be fitted to; a form that cannot be fitted to any split that
    another can has no weight.
    """
    if (y <= 0).any():
        raise FitError("forms are compared by their errors of ln y: y has to be above 0")
    fits, reasons, found = [], [], []
    for form in forms:
        try:
            whole = fit(form, variables, y, objective=objective, seed=seed, starts=starts)
        except FitError as error:
            reasons.append(f"{form.name}: {error}")
            continue
        fits.append(whole)
        found.append(rolling_errors(form, variables, y, objective=objective, seed=seed, starts=starts))
    if not fits:
        raise FitError("no law can be fitted:\n  " + "\n  ".join(reasons))
    errors = shared_means(np.array(found))
    weights = weigh(errors)
    ranked = [
        Candidate(fit=whole, rolling=float(error), aicc=aicc(whole), bic=bic(whole), weight=float(weight))
        for whole, error, weight in zip(fits, errors, weights, strict=True)
    ]
    return sorted(ranked, key=lambda c: c.rolling)


def shared_means(found: Array) -> Array:
    """Geometric means [forms] of errors [forms, splits], over the splits that all forms with any error have."""
    finite = np.isfinite(found)
    judged = finite.any(1)
    shared = finite[judged].all(0)
    means = np.full(len(found), np.inf)
    if shared.any():
        means[judged] = np.exp(np.log(np.maximum(found[judged][:, shared], 1e-12)).mean(1))
    return means


def weigh(errors: Array) -> Array:
    """Weights that sum to 1; equal ones if no form could be judged."""
    if not np.isfinite(errors).any():
        return np.full(len(errors), 1 / len(errors))
    raw = np.where(np.isfinite(errors), (errors / errors.min()) ** -SHARPNESS, 0.0)
    return np.asarray(raw / raw.sum())


def rolling_errors(
    form: Law, variables: Mapping[str, Array], y: Array, *, objective: str, seed: int, starts: int
) -> list[float]:
    """Root mean square error of ln y on the hidden points of each split; inf where the form cannot be fitted.

    Points are hidden from the largest product of their variables down.
    """
    order = np.argsort(sum(np.log(np.asarray(variables[v], dtype=np.float64)) for v in form.variables), kind="stable")
    found = []
    for n_hidden in sorted({max(1, round(share * len(y))) for share in HIDDEN}):
        kept, hidden = order[:-n_hidden], order[-n_hidden:]
        given = {v: variables[v][kept] for v in form.variables}
        try:
            part = fit(form, given, y[kept], objective=objective, seed=seed, starts=starts)
        except FitError:
            found.append(float("inf"))
            continue
        error = log_rmse(part.predict({v: variables[v][hidden] for v in form.variables}), y[hidden])
        found.append(error if np.isfinite(error) else float("inf"))
    return found


def mix(weighted: Sequence[tuple[Fit, float]], variables: Mapping[str, Array]) -> Array:
    """The fits' predictions, averaged in ln y by their weights."""
    logs = [weight * np.log(np.maximum(fit.predict(variables), 1e-300)) for fit, weight in weighted if weight > 0]
    return np.asarray(np.exp(np.sum(logs, axis=0)))


def log_rmse(predicted: Array, y: Array) -> float:
    """sqrt(mean((ln ŷ − ln y)²))."""
    return float(np.sqrt(np.mean((np.log(np.maximum(predicted, 1e-300)) - np.log(y)) ** 2)))


def aicc(found: Fit) -> float:
    """Akaike's criterion, corrected for few points (Hurvich and Tsai 1989), under normal errors of ln y."""
    k = len(found.law.parameters) + 1
    return deviance(found) + 2 * k + 2 * k * (k + 1) / max(found.n - k - 1, 1e-9)


def bic(found: Fit) -> float:
    """Schwarz's criterion under normal errors of ln y."""
    return deviance(found) + (len(found.law.parameters) + 1) * float(np.log(found.n))


def deviance(found: Fit) -> float:
    """−2 ln of the normal likelihood of the residuals at its best variance."""
    r = found.problem.residuals(found.searched[None])[0][0]
    return float(found.n * (np.log(2 * np.pi * max(np.mean(r**2), 1e-300)) + 1))
