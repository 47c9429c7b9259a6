"""How to spend training compute best, C = 6·N·D: by a fitted law `additive`, and by IsoFLOP profiles.

An IsoFLOP profile takes runs of one compute and finds the N of lowest loss by a parabola in ln N (Hoffmann et al. 2022,
approach 2). The true profile is no parabola: it is steeper on one side. So the parabola misplaces the lowest point,
more so if most sizes are on one side of it, and the exponent is wrong too. The size of this error is measured here, on
noise-free losses that the law `additive` of the same runs has at the same points.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.errors import FitError
from analysis.fits import uncertainty
from analysis.fits.fit import Fit, fit
from analysis.fits.problem import to_data_units
from analysis.laws.form import find

Array = NDArray[np.float64]

FLOPS_PER_TOKEN = 6.0  # of training, per parameter (Kaplan et al. 2020, arXiv 2001.08361)
SAME_COMPUTE = 0.1  # runs whose ln C differ by less belong to one profile
LARGE_BIAS = 0.01  # of the exponent
FALLING = ("A", "B", "alpha", "beta")  # above 0 in a law with an optimum


@dataclass(frozen=True, kw_only=True, slots=True)
class Allocation:
    """The best N (parameters) and D (tokens) for C (FLOPs), the loss there, and 90 % intervals from the resamples."""

    flops: float
    n: float
    d: float
    loss: float
    n_interval: tuple[float, float] | None
    d_interval: tuple[float, float] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class IsoFlop:
    """The N of lowest loss of each profile, and the power of C that they follow."""

    flops: Array  # [profiles]
    n_best: Array  # [profiles]
    exponent: float  # a of N ∝ C^a
    interval: tuple[float, float] | None  # 90 %, from resampled runs
    bias: float  # of `exponent`, measured on the noise-free losses of the law `additive`
    misplaced: float  # factor between the N found and the true one there, geometric mean over the profiles
    warnings: tuple[str, ...]


def optimal_exponents(parameters: dict[str, float]) -> tuple[float, float]:
    """a and b of N ∝ C^a and D ∝ C^b at the optimum of a law `additive`."""
    alpha, beta = parameters["alpha"], parameters["beta"]
    return beta / (alpha + beta), alpha / (alpha + beta)


def find_optimum(parameters: dict[str, float], flops: float) -> tuple[float, float]:
    """N and D of lowest loss for C FLOPs (Hoffmann et al. 2022, equation 4)."""
    p = parameters
    g = (p["alpha"] * p["A"] / (p["beta"] * p["B"])) ** (1 / (p["alpha"] + p["beta"]))
    n = g * (flops / FLOPS_PER_TOKEN) ** optimal_exponents(p)[0]
    return n, flops / (FLOPS_PER_TOKEN * n)


def allocate(fit: Fit, resamples: Array, flops: Sequence[float]) -> list[Allocation]:
    """The best use of each amount of compute. `fit`: of the law `additive`; `resamples`: its bootstrap, or none.

    Raises FitError if the law has no optimum.
    """
    if fit.law.name != "additive":
        raise FitError(f"compute is allocated by the law additive, not by {fit.law.name}")
    if flat := [k for k in FALLING if not fit.parameters[k] > 0]:
        raise FitError(
            f"there is no best N and D: {flat[0]} is 0, so the loss falls with only one of them; "
            "fit runs that differ more in both"
        )
    rows = list_with_optimum(fit, resamples)
    return [allocate_one(fit, rows, c) for c in flops]


def list_with_optimum(fit: Fit, resamples: Array) -> list[dict[str, float]]:
    """The parameters of the resamples that have an optimum, in the units of the data."""
    rows = [to_data_units(fit.problem, u) for u in resamples]
    return [row for row in rows if all(row[k] > 0 for k in FALLING)]


def allocate_one(fit: Fit, rows: Sequence[dict[str, float]], flops: float) -> Allocation:
    """The best use of one amount of compute."""
    n, d = find_optimum(fit.parameters, flops)
    cloud = np.array([find_optimum(row, flops) for row in rows])
    return Allocation(
        flops=flops,
        n=n,
        d=d,
        loss=float(fit.predict({"N": np.array([n]), "D": np.array([d])})[0]),
        n_interval=uncertainty.percentile_interval(cloud[:, 0], uncertainty.LEVEL) if rows else None,
        d_interval=uncertainty.percentile_interval(cloud[:, 1], uncertainty.LEVEL) if rows else None,
    )


# ---- IsoFLOP profiles ------------------------------------------------------------------------------------------------


def fit_isoflop(n: Array, d: Array, loss: Array, *, resamples: int = 500, seed: int = 0) -> IsoFlop:
    """Fits parabolas to the runs of like compute. `n` parameters, `d` tokens, `loss`: [runs].

    Raises FitError with fewer than two profiles of at least three sizes with a lowest point between them.
    """
    of = number_profiles(n, d)
    flops, n_best = find_lowest(n, d, loss, of)
    if len(flops) < 2:
        raise FitError(
            f"{len(flops)} IsoFLOP profiles have a lowest point, two are needed: at least three sizes of one compute "
            "6·N·D, on both sides of the lowest loss"
        )
    exponent = fit_exponent(flops, n_best)
    bias, misplaced = measure_bias(n, d, loss, of)
    return IsoFlop(
        flops=flops,
        n_best=n_best,
        exponent=exponent,
        interval=resample_exponent(n, d, loss, of, resamples, seed),
        bias=bias,
        misplaced=misplaced,
        warnings=write_warnings(exponent, bias, misplaced),
    )


def number_profiles(n: Array, d: Array) -> NDArray[np.intp]:
    """The profile of each run: runs are sorted by compute and cut where it jumps."""
    log_c = np.log(n) + np.log(d)
    order = np.argsort(log_c)
    numbers = np.empty(len(n), dtype=np.intp)
    numbers[order] = np.concatenate([[0], np.cumsum(np.diff(log_c[order]) > SAME_COMPUTE)])
    return numbers


def find_lowest(n: Array, d: Array, loss: Array, of: NDArray[np.intp]) -> tuple[Array, Array]:
    """Compute and best N of the profiles whose parabola opens upwards and is lowest between its sizes."""
    points = []
    for profile in np.unique(of):
        log_n, y = np.log(n[of == profile]), loss[of == profile]
        if len(np.unique(log_n)) < 3:
            continue
        middle = log_n.mean()
        curvature, tilt, _ = np.polyfit(log_n - middle, y, 2)
        lowest = middle - tilt / (2 * curvature) if curvature > 0 else np.inf
        if log_n.min() <= lowest <= log_n.max():
            mean_flops = np.exp(np.mean(np.log(FLOPS_PER_TOKEN * n * d)[of == profile]))
            points.append((mean_flops, np.exp(lowest)))
    both = np.array(points).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def fit_exponent(flops: Array, n_best: Array) -> float:
    """a of N ∝ C^a."""
    return float(np.polyfit(np.log(flops), np.log(n_best), 1)[0])


def measure_bias(n: Array, d: Array, loss: Array, of: NDArray[np.intp]) -> tuple[float, float]:
    """The exponent of the parabolas minus the true one, and their N over the true one, on losses without noise."""
    law = fit(find("additive"), {"N": n, "D": d}, loss)
    flops, n_best = find_lowest(n, d, law.predict({"N": n, "D": d}), of)
    if len(flops) < 2 or not all(law.parameters[k] > 0 for k in FALLING):
        return float("nan"), float("nan")
    true = [find_optimum(law.parameters, c)[0] for c in flops]
    bias = fit_exponent(flops, n_best) - optimal_exponents(law.parameters)[0]
    return bias, float(np.exp(np.log(n_best / true).mean()))


def resample_exponent(
    n: Array, d: Array, loss: Array, of: NDArray[np.intp], resamples: int, seed: int
) -> tuple[float, float] | None:
    """90 % interval of the exponent from runs resampled within their profiles; None if no resample has one."""
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(of == profile) for profile in np.unique(of)]
    exponents = []
    for _ in range(resamples):
        rows = np.concatenate([rng.choice(runs, len(runs)) for runs in members])
        flops, n_best = find_lowest(n[rows], d[rows], loss[rows], of[rows])
        if len(flops) > 1:
            exponents.append(fit_exponent(flops, n_best))
    return uncertainty.percentile_interval(np.array(exponents), uncertainty.LEVEL) if exponents else None


def write_warnings(exponent: float, bias: float, misplaced: float) -> tuple[str, ...]:
    """What a reader of the exponent has to know."""
    general = "Parabolas misplace the lowest point, because the true profile is steeper on one side"
    if np.isnan(bias):
        return (f"{general}; how much could not be measured here.",)
    size = f"at these sizes they give {misplaced:.2f} times the best N and change the exponent by {bias:+.3f}"
    advice = f": {exponent - bias:.3f} is nearer the truth than {exponent:.3f}" if abs(bias) >= LARGE_BIAS else ""
    return (f"{general}; {size}{advice}.",)
