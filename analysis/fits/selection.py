"""Which form of law do the data speak for? Judged by what each form would have predicted.

Rolling extrapolation hides the largest x, then more, fits on what is left, and measures the error on what was hidden.
AICc and BIC are told beside it: they judge the fit, not the prediction.
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

HIDDEN = (0.1, 0.2, 0.3, 0.4, 0.5)  # shares of the points that are hidden in turn
SAME_SIZE = 1e-9  # difference of ln x
SHARPNESS = 4.0  # weights fall with this power of the rolling error
WORTH_TELLING = 0.05  # difference of two shares
RELEVANT = 0.05  # weight of a form that is worth a look


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A form, its fit to all points, and how it did: `rolling` error, and `weight`, its share in the mix.

    `misses`: prediction − truth of all points while they were hidden, in ln y; shares as they are.
    """

    fit: Fit
    misses: Array
    rolling: float
    aicc: float
    bic: float
    weight: float


def candidates(variables: Sequence[str], of: Quantity) -> list[Law]:
    """All registered laws of these variables, of losses or of accuracies. Raises FitError if there are none.

    Laws of one variable are those of any one; the X of a law stands for any size.
    """
    found = []
    for law in LAWS.values():
        names = law.variables
        if len(names) == len(variables) == 1 and names != ("L",):
            found.append(law.over(tuple(variables)))
        elif "X" in names and len(rest := set(variables) - set(names)) == 1 == len(set(names) - set(variables)):
            found.append(law.over([min(rest) if v == "X" else v for v in names]))
        elif set(names) == set(variables):
            found.append(law)
    if not (kept := [law for law in found if law.of == of]):
        raise FitError(f"no law of {of} is known for the variables {', '.join(variables)}")
    return kept


def compare(
    forms: Sequence[Law], points: Points, *, objective: str, seed: int = 0, starts: int = 24
) -> list[Candidate]:
    """The forms that can be fitted, the best predictor first. Raises FitError if there is none.

    Forms are judged on the splits that all of them can be fitted to; a form that cannot be fitted to any split that
    another can has no weight.
    """
    if (points.y <= 0).any() and not parse(objective).binomial:
        raise FitError("forms are compared by their errors of ln y: y has to be above 0")
    fits, reasons = [], []
    for form in forms:
        try:
            fits.append(fit_points(form, points, objective=objective, seed=seed, starts=starts))
        except FitError as error:
            reasons.append(f"{form.name}: {error}")
    if not fits:
        raise FitError("no law can be fitted:\n  " + "\n  ".join(reasons))
    missed = [rolling_misses(one.law, points, objective=objective, seed=seed, starts=starts) for one in fits]
    errors = shared_means(np.array([[rms(split) for split in splits] for splits in missed]))
    ranked = [
        Candidate(
            fit=whole,
            misses=np.concatenate([np.empty(0), *(split for split in splits if np.isfinite(rms(split)))]),
            rolling=float(error),
            aicc=aicc(whole),
            bic=bic(whole),
            weight=float(weight),
        )
        for whole, splits, error, weight in zip(fits, missed, errors, weigh(errors), strict=True)
    ]
    return sorted(ranked, key=lambda c: c.rolling)


def refusals(forms: Sequence[Law], ranked: Sequence[Candidate], points: Points, objective: str) -> dict[str, str]:
    """Why the forms that are not among the ranked ones could not be fitted, by their names."""
    found = {}
    for form in forms:
        if form.name in {c.fit.law.name for c in ranked}:
            continue
        try:
            pose(form, points.variables, points.y, objective, points.weights, points.errors)
            found[form.name] = "it has no finite objective at any start"
        except FitError as error:
            found[form.name] = str(error)
    return found


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


def rolling_misses(form: Law, points: Points, *, objective: str, seed: int, starts: int) -> list[Array]:
    """Prediction − truth of the hidden points of each split; [inf] where the form cannot be fitted.

    Points are hidden from the largest product of their variables down.
    """
    size = np.sum([np.log(points.variables[v]) for v in form.variables], axis=0)
    order = np.argsort(size, kind="stable")
    found = []
    for n_hidden in cuts(size[order]):
        kept, hidden = (points.take(rows) for rows in (order[:-n_hidden], order[-n_hidden:]))
        try:
            part = fit_points(form, kept, objective=objective, seed=seed, starts=starts)
        except FitError:
            found.append(np.array([np.inf]))
            continue
        found.append(misses(part, part.predict(hidden.variables), hidden.y))
    return found


def cuts(size: Array) -> list[int]:
    """How many of the points, sorted by `size`, to hide in turn: near the shares of HIDDEN, never some of a tie only.

    Points at a place that others of are kept would be no extrapolation.
    """
    n = len(size)
    possible = n - 1 - np.flatnonzero(np.diff(size) > SAME_SIZE)
    wanted = [max(1, round(share * n)) for share in HIDDEN]
    return sorted({int(possible[np.argmin(np.abs(possible - w))]) for w in wanted}) if len(possible) else []


def misses(fit: Fit, predicted: Array, y: Array) -> Array:
    """Errors of ln y; of a share itself under `binomial`."""
    if fit.problem.objective.binomial:
        return np.asarray(predicted - y)
    return np.asarray(np.log(np.maximum(predicted, 1e-300)) - np.log(y))


def rms(found: Array) -> float:
    """Root mean square; inf if any is not finite."""
    with np.errstate(all="ignore"):
        error = float(np.sqrt(np.mean(found**2)))
    return error if np.isfinite(error) else float("inf")


def mix(members: Sequence[Member], variables: Mapping[str, Array]) -> Array:
    """The fits' predictions, averaged in ln y (shares: as they are) by their weights."""
    found = [(member.fit.predict(variables), member.weight) for member in members if member.weight > 0]
    if members[0].fit.problem.objective.binomial:
        return np.asarray(sum(weight * value for value, weight in found))
    return np.asarray(np.exp(sum(weight * np.log(np.maximum(value, 1e-300)) for value, weight in found)))


def log_rmse(predicted: Array, y: Array) -> float:
    """sqrt(mean((ln ŷ − ln y)²))."""
    return float(np.sqrt(np.mean((np.log(np.maximum(predicted, 1e-300)) - np.log(y)) ** 2)))


def choice(ranked: Sequence[Candidate], variables: Mapping[str, Array]) -> str:
    """Which form won, by how much, and whether the choice matters for the predictions at the variables."""
    first = ranked[0]
    if not np.isfinite(first.rolling):
        return f"No form can be judged by extrapolation with {first.fit.n} points: all count alike."
    kept = [c for c in ranked if c.weight >= RELEVANT]
    apart = disagreement([c.fit for c in kept], variables)
    share = first.fit.problem.objective.binomial
    next_best = f"; next {ranked[1].fit.law.name}, {ranked[1].rolling:.3g}" if len(ranked) > 1 else ""
    matters = "matters" if apart > (WORTH_TELLING if share else 2 * first.rolling) else "hardly matters"
    return (
        f"{first.fit.law.name} predicts best when the largest points are hidden: error {first.rolling:.3g}{next_best}. "
        f"The choice {matters} for the prediction: the {len(kept)} forms of at least {RELEVANT:.0%} weight differ by "
        f"up to {f'{100 * apart:.1f} points' if share else f'{apart:.1%}'}."
    )


def disagreement(fits: Sequence[Fit], variables: Mapping[str, Array]) -> float:
    """The largest difference of the fits' predictions: relative; of shares as it is."""
    values = np.array([found.predict(variables) for found in fits])
    if fits[0].problem.objective.binomial:
        return float(np.ptp(values, axis=0).max())
    return float(np.expm1(np.ptp(np.log(np.maximum(values, 1e-300)), axis=0).max()))


def aicc(found: Fit) -> float:
    """Akaike's criterion, corrected for few points (Hurvich and Tsai 1989), under normal errors or the binomial."""
    k = n_parameters(found)
    return deviance(found) + 2 * k + 2 * k * (k + 1) / max(found.n - k - 1, 1e-9)


def bic(found: Fit) -> float:
    """Schwarz's criterion under normal errors or the binomial."""
    return deviance(found) + n_parameters(found) * float(np.log(found.n))


def n_parameters(found: Fit) -> int:
    """Of the law, and the variance unless the binomial gives it."""
    return len(found.law.parameters) + (not found.problem.objective.binomial)


def deviance(found: Fit) -> float:
    """−2 ln of the likelihood, but for a constant: of normal residuals at their best variance, or of the shares."""
    r, weights = found.problem.residuals(found.searched[None])[0][0], found.problem.weights
    if found.problem.objective.binomial:
        return float((weights * r**2).sum())
    return float(found.n * (np.log(2 * np.pi * max(np.average(r**2, weights=weights), 1e-300)) + 1))
