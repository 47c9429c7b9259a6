"""Compares forms of law by what each one would have predicted.

Rolling extrapolation hides the points of largest x, then more, fits to the others, and measures the error on the hidden
ones. AICc and BIC are reported beside it: they judge the fit, not the prediction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.errors import FitError
from analysis.fits.fit import Fit, fit_points
from analysis.fits.objectives import parse
from analysis.fits.problem import Points, pose
from analysis.fits.uncertainty import Member
from analysis.laws.form import LAWS, Law, Quantity

Array = NDArray[np.float64]

HIDDEN = (0.1, 0.2, 0.3, 0.4, 0.5)  # shares of the points that are hidden, one after the other
SAME_SIZE = 1e-9  # difference of ln x
SHARPNESS = 4.0  # weights fall with this power of the rolling error
LARGE_DIFFERENCE = 0.05  # of two shares
RELEVANT = 0.05  # weight of a form that counts


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A form, its fit to all points, its `rolling` error, and its `weight` in the mix.

    `misses`: prediction − truth of all points while they were hidden, in ln y; shares as they are.
    """

    fit: Fit
    misses: Array
    rolling: float
    aicc: float
    bic: float
    weight: float


def list_candidates(variables: Sequence[str], of: Quantity) -> list[Law]:
    """All registered laws of these variables, of losses or of accuracies. Raises FitError if there are none.

    Laws of one variable apply to any variable; the X of a law stands for any size.
    """
    laws = []
    for law in LAWS.values():
        names = law.variables
        if len(names) == len(variables) == 1 and names != ("L",):
            laws.append(law.rename(tuple(variables)))
        elif "X" in names and len(rest := set(variables) - set(names)) == 1 == len(set(names) - set(variables)):
            laws.append(law.rename([min(rest) if v == "X" else v for v in names]))
        elif set(names) == set(variables):
            laws.append(law)
    if not (candidates := [law for law in laws if law.of == of]):
        raise FitError(f"no law of {of} is known for the variables {', '.join(variables)}")
    return candidates


def compare(
    forms: Sequence[Law], points: Points, *, objective: str, seed: int = 0, starts: int = 24
) -> list[Candidate]:
    """Ranks the forms that can be fitted, the best predictor first. Raises FitError if there is none.

    Forms are judged on the splits that all of them can be fitted to. A form that cannot be fitted to any split, while
    another form can, has no weight.
    """
    if (points.y <= 0).any() and not parse(objective).binomial:
        raise FitError("forms are compared by their errors of ln y: y has to be above 0")
    fits = fit_forms(forms, points, objective, seed, starts)
    splits = [predict_hidden(one.law, points, objective=objective, seed=seed, starts=starts) for one in fits]
    errors = average_shared(np.array([[rms(split) for split in of_form] for of_form in splits]))
    candidates = [
        Candidate(
            fit=one,
            misses=np.concatenate([np.empty(0), *(split for split in of_form if np.isfinite(rms(split)))]),
            rolling=float(error),
            aicc=aicc(one),
            bic=bic(one),
            weight=float(weight),
        )
        for one, of_form, error, weight in zip(fits, splits, errors, weigh(errors), strict=True)
    ]
    return sorted(candidates, key=lambda c: c.rolling)


def fit_forms(forms: Sequence[Law], points: Points, objective: str, seed: int, starts: int) -> list[Fit]:
    """The fits of the forms that can be fitted. Raises FitError with all reasons if there is none."""
    fits, reasons = [], []
    for form in forms:
        try:
            fits.append(fit_points(form, points, objective=objective, seed=seed, starts=starts))
        except FitError as error:
            reasons.append(f"{form.name}: {error}")
    if not fits:
        raise FitError("no law can be fitted:\n  " + "\n  ".join(reasons))
    return fits


def explain_refusals(
    forms: Sequence[Law], ranked: Sequence[Candidate], points: Points, objective: str
) -> dict[str, str]:
    """Why the forms that are not ranked could not be fitted, by their names."""
    reasons = {}
    for form in forms:
        if form.name in {c.fit.law.name for c in ranked}:
            continue
        try:
            pose(form, points.variables, points.y, objective, points.weights, points.errors)
            reasons[form.name] = "it has no finite objective at any start"
        except FitError as error:
            reasons[form.name] = str(error)
    return reasons


def average_shared(errors: Array) -> Array:
    """Geometric means [forms] of errors [forms, splits], over the splits that all forms with any error have."""
    finite = np.isfinite(errors)
    judged = finite.any(1)
    shared = finite[judged].all(0)
    means = np.full(len(errors), np.inf)
    if shared.any():
        means[judged] = np.exp(np.log(np.maximum(errors[judged][:, shared], 1e-12)).mean(1))
    return means


def weigh(errors: Array) -> Array:
    """Weights that sum to 1; all equal if no form could be judged."""
    if not np.isfinite(errors).any():
        return np.full(len(errors), 1 / len(errors))
    raw = np.where(np.isfinite(errors), (errors / errors.min()) ** -SHARPNESS, 0.0)
    return np.asarray(raw / raw.sum())


# ---- hidden points ---------------------------------------------------------------------------------------------------


def predict_hidden(form: Law, points: Points, *, objective: str, seed: int, starts: int) -> list[Array]:
    """Prediction − truth of the hidden points of each split; [inf] where the form cannot be fitted.

    The points with the largest product of their variables are hidden first.
    """
    size = np.sum([np.log(points.variables[v]) for v in form.variables], axis=0)
    order = np.argsort(size, kind="stable")
    splits = []
    for n_hidden in choose_cuts(size[order]):
        train, test = (points.take(rows) for rows in (order[:-n_hidden], order[-n_hidden:]))
        try:
            part = fit_points(form, train, objective=objective, seed=seed, starts=starts)
        except FitError:
            splits.append(np.array([np.inf]))
            continue
        splits.append(measure_misses(part, part.predict(test.variables), test.y))
    return splits


def choose_cuts(size: Array) -> list[int]:
    """How many of the points, sorted by `size`, to hide in each split: near the shares of HIDDEN.

    Points of the same size are hidden together, because predicting a point beside a known one is no extrapolation.
    """
    n = len(size)
    possible = n - 1 - np.flatnonzero(np.diff(size) > SAME_SIZE)
    wanted = [max(1, round(share * n)) for share in HIDDEN]
    return sorted({int(possible[np.argmin(np.abs(possible - w))]) for w in wanted}) if len(possible) else []


def measure_misses(fit: Fit, predicted: Array, y: Array) -> Array:
    """Errors of ln y; of a share itself under `binomial`."""
    if fit.problem.objective.binomial:
        return np.asarray(predicted - y)
    return np.asarray(np.log(np.maximum(predicted, 1e-300)) - np.log(y))


def rms(errors: Array) -> float:
    """Root mean square; inf if it is not finite."""
    with np.errstate(all="ignore"):
        error = float(np.sqrt(np.mean(errors**2)))
    return error if np.isfinite(error) else float("inf")


# ---- the mix ---------------------------------------------------------------------------------------------------------


def mix(members: Sequence[Member], variables: Mapping[str, Array]) -> Array:
    """The predictions of the fits, averaged in ln y (shares: as they are) by their weights."""
    predictions = [(member.fit.predict(variables), member.weight) for member in members if member.weight > 0]
    if members[0].fit.problem.objective.binomial:
        return np.asarray(sum(weight * value for value, weight in predictions))
    return np.asarray(np.exp(sum(weight * np.log(np.maximum(value, 1e-300)) for value, weight in predictions)))


def log_rmse(predicted: Array, y: Array) -> float:
    """sqrt(mean((ln ŷ − ln y)²))."""
    return float(np.sqrt(np.mean((np.log(np.maximum(predicted, 1e-300)) - np.log(y)) ** 2)))


def describe_choice(ranked: Sequence[Candidate], variables: Mapping[str, Array]) -> str:
    """Which form won, by how much, and whether the choice affects the predictions at the variables."""
    first = ranked[0]
    if not np.isfinite(first.rolling):
        return f"No form can be judged by extrapolation with {first.fit.n} points: all have the same weight."
    relevant = [c for c in ranked if c.weight >= RELEVANT]
    difference = max_difference([c.fit for c in relevant], variables)
    share = first.fit.problem.objective.binomial
    others = [f"; next {c.fit.law.name}, {c.rolling:.3g}" for c in ranked[1:2] if np.isfinite(c.rolling)]
    best = f"{first.fit.law.name} predicts best when the largest points are hidden: error {first.rolling:.3g}"
    if len(relevant) == 1:
        return f"{best}{''.join(others)}. No other form has a weight of at least {RELEVANT:.0%}."
    affects = "affects" if difference > (LARGE_DIFFERENCE if share else 2 * first.rolling) else "hardly affects"
    return (
        f"{best}{''.join(others)}. The choice {affects} the prediction: the {len(relevant)} forms with a weight of at "
        f"least {RELEVANT:.0%} differ by up to {f'{100 * difference:.1f} points' if share else f'{difference:.1%}'}."
    )


def max_difference(fits: Sequence[Fit], variables: Mapping[str, Array]) -> float:
    """The largest difference between the predictions of the fits: relative; of shares as it is."""
    values = np.array([one.predict(variables) for one in fits])
    if fits[0].problem.objective.binomial:
        return float(np.ptp(values, axis=0).max())
    return float(np.expm1(np.ptp(np.log(np.maximum(values, 1e-300)), axis=0).max()))


# ---- criteria --------------------------------------------------------------------------------------------------------


def aicc(fit: Fit) -> float:
    """Akaike's criterion, corrected for few points (Hurvich and Tsai 1989), under normal errors or the binomial."""
    k = count_parameters(fit)
    return deviance(fit) + 2 * k + 2 * k * (k + 1) / max(fit.n - k - 1, 1e-9)


def bic(fit: Fit) -> float:
    """Schwarz's criterion under normal errors or the binomial."""
    return deviance(fit) + count_parameters(fit) * float(np.log(fit.n))


def count_parameters(fit: Fit) -> int:
    """The parameters of the law, and the variance unless the binomial determines it."""
    return len(fit.law.parameters) + (not fit.problem.objective.binomial)


def deviance(fit: Fit) -> float:
    """−2 ln of the likelihood, except for a constant: of normal residuals at their best variance, or of the shares."""
    r, weights = fit.problem.residuals(fit.searched[None])[0][0], fit.problem.weights
    if fit.problem.objective.binomial:
        return float((weights * r**2).sum())
    return float(fit.n * (np.log(2 * np.pi * max(np.average(r**2, weights=weights), 1e-300)) + 1))
