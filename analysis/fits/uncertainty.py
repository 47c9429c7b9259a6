"""The uncertainty of a fit: bootstrap over points or clusters, intervals of parameters and of predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

from analysis.errors import NoVariation
from analysis.fits import solver
from analysis.fits.fit import Fit
from analysis.fits.problem import sort_groups, to_data_units, to_parameters
from analysis.laws.form import Law

Array = NDArray[np.float64]

LEVEL = 0.90
TOLERANCE = 1e-6  # relative, of the objective: far below what resampling changes
CHUNK = 250  # bootstrap fits that step together: bounds the memory


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """A fit in a mix of forms, or alone: its fits to resamples [resamples, p], and its weight in the mix.

    `misses`: its errors of ln y on points that were hidden from it, if there were any.
    """

    fit: Fit
    resamples: Array
    weight: float = 1.0
    misses: Array | None = None


def bootstrap(fit: Fit, n: int, seed: int = 0, clusters: Sequence[object] | None = None) -> Array:
    """Searched parameters [n, p] of n fits to resampled points, or to resampled clusters of points.

    Each starts where the fit ended (a warm start). A resample is a set of weights, so that all fits share their points
    (Efron and Tibshirani 1993, chapter 6).
    """
    rng = np.random.default_rng(seed)
    problem = fit.problem
    resamples = []
    for first in range(0, n, CHUNK):
        size = min(CHUNK, n - first)
        weights = problem.weights * count_in_resamples(rng, size, len(problem.y), clusters)
        start = np.repeat(fit.searched[None], size, axis=0)
        ends = solver.minimise(
            problem.residuals, start, problem.low, problem.high, weights, problem.objective.delta, TOLERANCE
        )
        resamples.append(np.array([sort_groups(fit.law, u) for u in ends.parameters]))
    return np.concatenate(resamples)


def count_in_resamples(rng: np.random.Generator, n: int, n_points: int, clusters: Sequence[object] | None) -> Array:
    """How often each point is in each resample [n, n_points]."""
    if clusters is not None and len(set(clusters)) < 2:
        raise NoVariation("resampling clusters needs more than one of them")
    if clusters is None:
        return rng.multinomial(n_points, np.full(n_points, 1 / n_points), size=n).astype(np.float64)
    names, of = np.unique(np.asarray(clusters).astype(str), return_inverse=True)
    counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=n)
    return np.asarray(counts[:, of], dtype=np.float64)


def intervals(
    fit: Fit, resamples: Array, level: float = LEVEL, n_clusters: int | None = None
) -> dict[str, dict[str, tuple[float, float]]]:
    """By parameter, in the units of the data: the percentile and the bias-corrected interval (Efron 1987, a = 0).

    `n_clusters`: the number of clusters if clusters were resampled.
    """
    rows = [to_data_units(fit.problem, u) for u in resamples]
    wider = widen(level, fit.n, len(fit.searched)) if n_clusters is None else widen(level, n_clusters, 1)
    return {
        name: {
            "percentile": percentile_interval(values, wider),
            "bias_corrected": bias_corrected_interval(values, fit.parameters[name], wider),
        }
        for name in fit.law.names
        for values in [np.array([row[name] for row in rows])]
    }


def widen(level: float, n: int, n_parameters: int) -> float:
    """The level at which quantiles of resamples contain the truth at `level` (Hesterberg 2015, 1411.5279, 5.3).

    Resamples of n points are too narrow by sqrt((n − p) / n), and have normal tails where Student's t is right.
    """
    freedom = max(n - n_parameters, 1)
    return float(1 - 2 * norm.cdf(-np.sqrt(n / freedom) * t.ppf((1 + level) / 2, freedom)))


def percentile_interval(values: Array, level: float) -> tuple[float, float]:
    """Bounds of the central share of the values."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bias_corrected_interval(values: Array, estimate: float, level: float) -> tuple[float, float]:
    """Quantiles, shifted by the distance of the estimate from the middle of the values."""
    share = np.clip(((values < estimate).mean() + (values <= estimate).mean()) / 2, 1e-6, 1 - 1e-6)
    shift = 2 * norm.ppf(share)
    low, high = np.quantile(values, norm.cdf(shift + norm.ppf([(1 - level) / 2, (1 + level) / 2])))
    return float(low), float(high)


# ---- predictions -----------------------------------------------------------------------------------------------------


def simulate_points(member: Member, variables: Mapping[str, Array], tries: Array | None = None, seed: int = 0) -> Array:
    """New points [resamples, m]: the prediction of each resample's fit, with the error of one point.

    Beyond the range of the fit, every other value is the fit's prediction with one of its misses, in a random
    direction: the fit's own errors do not show where its form stops being right, nor in which direction it is then
    wrong. `tries` [m]: the number of tries of which a point is the share, under `binomial`.
    """
    rng = np.random.default_rng(seed)
    fit, objective = member.fit, member.fit.problem.objective
    value = predict_resamples(fit, member.resamples, variables)
    if objective.binomial:
        n = np.full(value.shape[1], np.median(fit.problem.weights)) if tries is None else np.maximum(tries, 1)
        return np.asarray(rng.binomial(np.round(n).astype(int), np.clip(value, 0, 1)) / n)
    shares = fit.problem.weights / fit.problem.weights.sum()
    noise = -rng.choice(inflated_residuals(fit), size=value.shape, p=shares)  # residuals are prediction − y
    points = np.asarray(value * np.exp(noise) if objective.log else value + noise)
    if objective.log and member.misses is not None and len(member.misses):
        miss = rng.choice(member.misses, size=value.shape) * rng.choice([-1.0, 1.0], size=value.shape)
        use_miss = (np.arange(len(value)) % 2 == 1)[:, None] & is_beyond(fit, variables)
        points = np.where(use_miss, fit.predict(variables) * np.exp(miss), points)
    return points


def is_beyond(fit: Fit, variables: Mapping[str, Array]) -> NDArray[np.bool_]:
    """Which points [m] are above the range of the fit in any variable."""
    problem = fit.problem
    above = [np.asarray(variables[v]) > x.max() * problem.centres[v] * (1 + 1e-9) for v, x in problem.variables.items()]
    return np.asarray(np.any(above, axis=0))


def predict_resamples(fit: Fit, resamples: Array, variables: Mapping[str, Array]) -> Array:
    """The prediction of each resample's fit [resamples, m], in the units of the data."""
    problem = fit.problem
    centred = {v: np.asarray(variables[v], dtype=np.float64)[None] / problem.centres[v] for v in fit.law.variables}
    with np.errstate(all="ignore"):
        value = fit.law.value(centred, to_columns(fit.law, to_parameters(fit.law, resamples)))
    return np.asarray(value * problem.y_centre)


def inflated_residuals(fit: Fit) -> Array:
    """The residuals [n] of the fit, larger by what fitting the parameters took from them; known errors are averaged."""
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
    """Bounds [m] of the central share of new points."""
    return find_bounds([(simulate_points(one, variables, tries, seed), one.weight) for one in members], level)


def curve_intervals(
    members: Sequence[Member], variables: Mapping[str, Array], level: float = LEVEL
) -> tuple[Array, Array]:
    """Bounds [m] of the curve itself, without the error of a point."""
    return find_bounds([(predict_resamples(one.fit, one.resamples, variables), one.weight) for one in members], level)


def find_bounds(clouds: Sequence[tuple[Array, float]], level: float) -> tuple[Array, Array]:
    """Bounds [m] of the central share of several clouds [resamples, m]; each counts by its weight."""
    pairs = [(cloud, weight) for cloud, weight in clouds if weight > 0]
    total = max(len(cloud) for cloud, _ in pairs)
    parts = [cloud[: max(1, round(weight * total))] for cloud, weight in pairs]
    low, high = np.nanquantile(np.concatenate(parts), [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def to_columns(law: Law, natural: Array) -> dict[str, Array]:
    """Parameters [resamples, p] as columns, by their names."""
    return {name: natural[:, i, None] for i, name in enumerate(law.names)}
