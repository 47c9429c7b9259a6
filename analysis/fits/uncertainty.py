"""How sure a fit is: bootstrap over points or clusters, intervals of parameters and of predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

from analysis.errors import NoVariation
from analysis.fits import solver
from analysis.fits.fit import Fit
from analysis.fits.problem import in_order, to_data_units, to_parameters
from analysis.laws.form import Law

Array = NDArray[np.float64]

LEVEL = 0.90
TOLERANCE = 1e-6  # relative, of the objective: far below what resampling changes
CHUNK = 250  # bootstrap fits that step together: bounds the memory


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """A fit in a mix of forms, or alone: its bootstrap draws [draws, p] and its share.

    `misses`: its errors of ln y on points that were hidden from it, where that was tried.
    """

    fit: Fit
    draws: Array
    weight: float = 1.0
    misses: Array | None = None


def bootstrap(fit: Fit, n: int, seed: int = 0, clusters: Sequence[object] | None = None) -> Array:
    """Searched parameters [n, p] of n fits to resampled points, or to resampled clusters of points.

    Each starts where the fit ended (a warm start). Resampling is by weights, so that all fits share their points
    (Efron and Tibshirani 1993, chapter 6).
    """
    rng = np.random.default_rng(seed)
    problem = fit.problem
    found = []
    for first in range(0, n, CHUNK):
        size = min(CHUNK, n - first)
        weights = problem.weights * resampled(rng, size, len(problem.y), clusters)
        start = np.repeat(fit.searched[None], size, axis=0)
        ends = solver.minimise(
            problem.residuals, start, problem.low, problem.high, weights, problem.objective.delta, TOLERANCE
        )
        found.append(np.array([in_order(fit.law, u) for u in ends.parameters]))
    return np.concatenate(found)


def resampled(rng: np.random.Generator, n: int, n_points: int, clusters: Sequence[object] | None) -> Array:
    """How often each point [n, n_points] was drawn."""
    if clusters is not None and len(set(clusters)) < 2:
        raise NoVariation("resampling clusters needs more than one of them")
    if clusters is None:
        return rng.multinomial(n_points, np.full(n_points, 1 / n_points), size=n).astype(np.float64)
    names, of = np.unique(np.asarray(clusters).astype(str), return_inverse=True)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=n)
    return np.asarray(drawn[:, of], dtype=np.float64)


def intervals(
    fit: Fit, draws: Array, level: float = LEVEL, n_clusters: int | None = None
) -> dict[str, dict[str, tuple[float, float]]]:
    """By parameter, in the units of the data: the percentile and the bias-corrected interval (Efron 1987, a = 0).

    Both are expanded for few points, or for few clusters where those were resampled.
    """
    rows = [to_data_units(fit.problem, u) for u in draws]
    wider = expanded(level, fit.n, len(fit.searched)) if n_clusters is None else expanded(level, n_clusters, 1)
    return {
        name: {
            "percentile": percentile(values, wider),
            "bias_corrected": bias_corrected(values, fit.parameters[name], wider),
        }
        for name in fit.law.names
        for values in [np.array([row[name] for row in rows])]
    }


def expanded(level: float, n: int, n_parameters: int) -> float:
    """The level whose quantiles of resamples hold the truth at `level` (Hesterberg 2015, arXiv 1411.5279, 5.3).

    Resamples of n points are too narrow by sqrt((n − p) / n), and normal where Student's t is due.
    """
    freedom = max(n - n_parameters, 1)
    return float(1 - 2 * norm.cdf(-np.sqrt(n / freedom) * t.ppf((1 + level) / 2, freedom)))


def percentile(values: Array, level: float) -> tuple[float, float]:
    """The central share of the values."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bias_corrected(values: Array, estimate: float, level: float) -> tuple[float, float]:
    """Quantiles moved by how far the estimate lies from the middle of the values."""
    share = np.clip(((values < estimate).mean() + (values <= estimate).mean()) / 2, 1e-6, 1 - 1e-6)
    shift = 2 * norm.ppf(share)
    low, high = np.quantile(values, norm.cdf(shift + norm.ppf([(1 - level) / 2, (1 + level) / 2])))
    return float(low), float(high)


def prediction_draws(
    member: Member, variables: Mapping[str, Array], tries: Array | None = None, seed: int = 0
) -> Array:
    """New points [draws, m] as they might lie: each drawn fit's prediction with the error of one point.

    Beyond the range of the fit every other one is the fit itself with one of its misses, in either direction: a fit's
    own errors know nothing of a form that stops to hold, and which way it will miss is not known. `tries` [m]: of how
    many tries a point is the share, under `binomial`.
    """
    rng = np.random.default_rng(seed)
    fit, objective = member.fit, member.fit.problem.objective
    value = fitted_values(fit, member.draws, variables)
    if objective.binomial:
        n = np.full(value.shape[1], np.median(fit.problem.weights)) if tries is None else np.maximum(tries, 1)
        return np.asarray(rng.binomial(np.round(n).astype(int), np.clip(value, 0, 1)) / n)
    likely = fit.problem.weights / fit.problem.weights.sum()
    noise = -rng.choice(residual_noise(fit), size=value.shape, p=likely)  # residuals are prediction − y
    drawn = np.asarray(value * np.exp(noise) if objective.log else value + noise)
    if objective.log and member.misses is not None and len(member.misses):
        missed = rng.choice(member.misses, size=value.shape) * rng.choice([-1.0, 1.0], size=value.shape)
        other = (np.arange(len(value)) % 2 == 1)[:, None] & beyond(fit, variables)
        drawn = np.where(other, fit.predict(variables) * np.exp(missed), drawn)
    return drawn


def beyond(fit: Fit, variables: Mapping[str, Array]) -> NDArray[np.bool_]:
    """Which points [m] lie above the range of the fit in any variable."""
    problem = fit.problem
    above = [np.asarray(variables[v]) > x.max() * problem.centres[v] * (1 + 1e-9) for v, x in problem.variables.items()]
    return np.asarray(np.any(above, axis=0))


def fitted_values(fit: Fit, draws: Array, variables: Mapping[str, Array]) -> Array:
    """Each drawn fit's prediction [draws, m], in the units of the data."""
    problem = fit.problem
    centred = {v: np.asarray(variables[v], dtype=np.float64)[None] / problem.centres[v] for v in fit.law.variables}
    with np.errstate(all="ignore"):
        value = fit.law.value(centred, by_name(fit.law, to_parameters(fit.law, draws)))
    return np.asarray(value * problem.y_centre)


def residual_noise(fit: Fit) -> Array:
    """The fit's residuals [n], enlarged for the parameters that were fitted to them; known errors are averaged."""
    problem = fit.problem
    r = problem.residuals(fit.searched[None])[0][0] * np.exp(np.log(problem.errors).mean())
    return np.asarray(r * np.sqrt(len(r) / max(len(r) - len(fit.searched), 1)))


def mixed_intervals(
    members: Sequence[Member],
    variables: Mapping[str, Array],
    level: float = LEVEL,
    tries: Array | None = None,
    seed: int = 0,
) -> tuple[Array, Array]:
    """Where new points would lie: bounds [m] of the central share."""
    return bounds([(prediction_draws(one, variables, tries, seed), one.weight) for one in members], level)


def curve_intervals(
    members: Sequence[Member], variables: Mapping[str, Array], level: float = LEVEL
) -> tuple[Array, Array]:
    """Where the curve itself may lie, without the error of a point: bounds [m] as in `mixed_intervals`."""
    return bounds([(fitted_values(one.fit, one.draws, variables), one.weight) for one in members], level)


def bounds(clouds: Sequence[tuple[Array, float]], level: float) -> tuple[Array, Array]:
    """Bounds [m] of the central share of clouds [draws, m], of each as much as its weight."""
    used = [(cloud, weight) for cloud, weight in clouds if weight > 0]
    total = max(len(cloud) for cloud, _ in used)
    kept = [cloud[: max(1, round(weight * total))] for cloud, weight in used]
    low, high = np.nanquantile(np.concatenate(kept), [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def by_name(law: Law, natural: Array) -> dict[str, Array]:
    """Parameters [draws, p] as columns, by their names."""
    return {name: natural[:, i, None] for i, name in enumerate(law.names)}
