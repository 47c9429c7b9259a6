"""How to spend training compute best, C = 6·N·D: from a fitted `additive` law, and from IsoFLOP profiles.

An IsoFLOP profile takes runs of one compute and finds the N of lowest loss by a parabola in ln N (Hoffmann et al. 2022,
approach 2). The true profile is no parabola, and steeper on one side: the lowest point is misplaced, the more so the
further the sizes lie to one side of it, and so is the exponent. How much is measured here, on the noise-free losses
that the `additive` law of the same runs gives at the same places.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.errors import FitError
from analysis.fits import uncertainty
from analysis.fits.fit import Fit, fit
from analysis.fits.problem import to_data_units
from analysis.laws import form

Array = NDArray[np.float64]

FLOPS_A_TOKEN = 6.0  # of training, a parameter (Kaplan et al. 2020, arXiv 2001.08361)
SAME_COMPUTE = 0.1  # runs whose ln C differ by less belong to one profile
WORTH_TELLING = 0.01  # of the exponent
FALLING = ("A", "B", "alpha", "beta")  # above 0 in a law with an optimum


@dataclass(frozen=True, kw_only=True, slots=True)
class Allocation:
    """The best N (parameters) and D (tokens) for C (FLOPs), the loss there, and 90 % intervals from the draws."""

    flops: float
    n: float
    d: float
    loss: float
    n_interval: tuple[float, float] | None
    d_interval: tuple[float, float] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class IsoFlop:
    """The lowest N of each profile and the power of C that they follow."""

    flops: Array  # [profiles]
    n_best: Array  # [profiles]
    exponent: float  # a of N ∝ C^a
    interval: tuple[float, float] | None  # 90 %, from resampled runs
    bias: float  # of `exponent`, as measured on the additive law's own noise-free losses
    misplaced: float  # factor between the best N and the true one there, geometric mean over the profiles
    warnings: tuple[str, ...]


def exponents(parameters: dict[str, float]) -> tuple[float, float]:
    """a and b of N ∝ C^a and D ∝ C^b at the optimum of an `additive` law."""
    alpha, beta = parameters["alpha"], parameters["beta"]
    return beta / (alpha + beta), alpha / (alpha + beta)


def best(parameters: dict[str, float], flops: float) -> tuple[float, float]:
    """N and D of lowest loss for C FLOPs (Hoffmann et al. 2022, equation 4)."""
    p = parameters
    g = (p["alpha"] * p["A"] / (p["beta"] * p["B"])) ** (1 / (p["alpha"] + p["beta"]))
    n = g * (flops / FLOPS_A_TOKEN) ** exponents(p)[0]
    return n, flops / (FLOPS_A_TOKEN * n)


def allocate(found: Fit, draws: Array, flops: Sequence[float]) -> list[Allocation]:
    """The best use of each amount of compute. `found`: a fit of `additive`; `draws`: its bootstrap, or none.

    Raises FitError if the law has no optimum.
    """
    if found.law.name != "additive":
        raise FitError(f"compute is allocated by the law additive, not by {found.law.name}")
    if flat := [k for k in FALLING if not found.parameters[k] > 0]:
        raise FitError(
            f"there is no best N and D: {flat[0]} is 0, so the loss falls with only one of them; "
            "fit runs that differ more in both"
        )
    rows = drawn(found, draws)
    return [allocation(found, rows, c) for c in flops]


def drawn(found: Fit, draws: Array) -> list[dict[str, float]]:
    """The draws' parameters in the units of the data, of those that have an optimum."""
    rows = [to_data_units(found.problem, u) for u in draws]
    return [row for row in rows if all(row[k] > 0 for k in FALLING)]


def allocation(found: Fit, rows: Sequence[dict[str, float]], flops: float) -> Allocation:
    """One amount of compute."""
    n, d = best(found.parameters, flops)
    cloud = np.array([best(row, flops) for row in rows])
    return Allocation(
        flops=flops,
        n=n,
        d=d,
        loss=float(found.predict({"N": np.array([n]), "D": np.array([d])})[0]),
        n_interval=uncertainty.percentile(cloud[:, 0], uncertainty.LEVEL) if rows else None,
        d_interval=uncertainty.percentile(cloud[:, 1], uncertainty.LEVEL) if rows else None,
    )


# ---- IsoFLOP profiles ------------------------------------------------------------------------------------------------


def isoflop(n: Array, d: Array, loss: Array, *, draws: int = 500, seed: int = 0) -> IsoFlop:
    """Parabolas through the runs of like compute. `n` parameters, `d` tokens, `loss`: [runs].

    Raises FitError with fewer than two profiles of at least three sizes with a lowest point between them.
    """
    of = profiles(n, d)
    flops, n_best = lowest_points(n, d, loss, of)
    if len(flops) < 2:
        raise FitError(
            f"{len(flops)} IsoFLOP profiles have a lowest point, two are needed: at least three sizes of one compute "
            "6·N·D, on both sides of the lowest loss"
        )
    exponent = slope(flops, n_best)
    bias, misplaced = parabola_bias(n, d, loss, of)
    return IsoFlop(
        flops=flops,
        n_best=n_best,
        exponent=exponent,
        interval=resampled_exponent(n, d, loss, of, draws, seed),
        bias=bias,
        misplaced=misplaced,
        warnings=warnings(exponent, bias, misplaced),
    )


def profiles(n: Array, d: Array) -> NDArray[np.intp]:
    """Which profile each run belongs to: runs sorted by compute, cut where it jumps."""
    log_c = np.log(n) + np.log(d)
    order = np.argsort(log_c)
    numbers = np.empty(len(n), dtype=np.intp)
    numbers[order] = np.concatenate([[0], np.cumsum(np.diff(log_c[order]) > SAME_COMPUTE)])
    return numbers


def lowest_points(n: Array, d: Array, loss: Array, of: NDArray[np.intp]) -> tuple[Array, Array]:
    """Compute and best N of the profiles whose parabola opens upwards and is lowest among its sizes."""
    found = []
    for profile in np.unique(of):
        log_n, y = np.log(n[of == profile]), loss[of == profile]
        if len(np.unique(log_n)) < 3:
            continue
        middle = log_n.mean()
        curvature, tilt, _ = np.polyfit(log_n - middle, y, 2)
        lowest = middle - tilt / (2 * curvature) if curvature > 0 else np.inf
        if log_n.min() <= lowest <= log_n.max():
            mean_flops = np.exp(np.mean(np.log(FLOPS_A_TOKEN * n * d)[of == profile]))
            found.append((mean_flops, np.exp(lowest)))
    both = np.array(found).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def slope(flops: Array, n_best: Array) -> float:
    """a of N ∝ C^a."""
    return float(np.polyfit(np.log(flops), np.log(n_best), 1)[0])


def parabola_bias(n: Array, d: Array, loss: Array, of: NDArray[np.intp]) -> tuple[float, float]:
    """The method's exponent minus the true one, and its N over the true one, on losses of the runs' additive law."""
    law = fit(form.find("additive"), {"N": n, "D": d}, loss)
    flops, n_best = lowest_points(n, d, law.predict({"N": n, "D": d}), of)
    if len(flops) < 2 or not all(law.parameters[k] > 0 for k in FALLING):
        return float("nan"), float("nan")
    true = [best(law.parameters, c)[0] for c in flops]
    return slope(flops, n_best) - exponents(law.parameters)[0], float(np.exp(np.log(n_best / true).mean()))


def resampled_exponent(
    n: Array, d: Array, loss: Array, of: NDArray[np.intp], draws: int, seed: int
) -> tuple[float, float] | None:
    """90 % interval of the exponent from runs resampled within their profiles; None if no resample has one."""
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(of == profile) for profile in np.unique(of)]
    found = []
    for _ in range(draws):
        drawn = np.concatenate([rng.choice(runs, len(runs)) for runs in members])
        flops, n_best = lowest_points(n[drawn], d[drawn], loss[drawn], of[drawn])
        if len(flops) > 1:
            found.append(slope(flops, n_best))
    return uncertainty.percentile(np.array(found), uncertainty.LEVEL) if found else None


def warnings(exponent: float, bias: float, misplaced: float) -> tuple[str, ...]:
    """What a reader of the exponent has to know."""
    general = "Parabolas misplace the lowest point, as the true profile is steeper on one side"
    if np.isnan(bias):
        return (f"{general}; how much could not be measured here.",)
    size = f"at these sizes they give {misplaced:.2f} times the best N and move the exponent by {bias:+.3f}"
    advice = f": {exponent - bias:.3f} is nearer the truth than {exponent:.3f}" if abs(bias) >= WORTH_TELLING else ""
    return (f"{general}; {size}{advice}.",)
