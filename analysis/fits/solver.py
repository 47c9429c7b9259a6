"""Robust nonlinear least squares for many starts at once: damped Newton steps on Σ w·ρ(r), within bounds.

`scipy.optimize.least_squares` runs one start at a time and slows down where δ is small against the residuals, because
almost no point then has curvature. Here δ comes down in stages to where it shall be, and all starts step together.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
# parameters [starts, p] → residuals [starts, n] and their derivatives [starts, n, p]
Residuals = Callable[[Array], tuple[Array, Array]]

MAX_STEPS = 200  # a stage
FLOOR = 1e-30  # an objective that is zero but for rounding
DAMPING = (1e-12, 1e12)


@dataclass(frozen=True, slots=True)
class Solution:
    """All starts' ends: parameters [starts, p], objectives [starts], and whether each converged."""

    parameters: Array
    objective: Array
    converged: NDArray[np.bool_]


def huber(r: Array, delta: float) -> Array:
    """ρ(r): r²/2 within delta, delta·(|r| − delta/2) outside (Huber 1964). delta = inf: least squares."""
    size = np.abs(r)
    if np.isinf(delta):
        return 0.5 * r**2
    return np.where(size <= delta, 0.5 * r**2, delta * (size - 0.5 * delta))


def minimise(
    residuals: Residuals,
    start: Array,
    low: Array,
    high: Array,
    weights: Array,
    delta: float,
    tolerance: float = 1e-9,
) -> Solution:
    """Brings every start [starts, p] to a minimum of Σ weights·huber(residuals, delta) within the bounds [p].

    `weights`: [n], or [starts, n] where each start has points of its own, as in a bootstrap. A start has converged when
    a step that surely holds would lower its objective by less than `tolerance`, relatively.
    """
    u = np.clip(start, low, high)
    weights = np.broadcast_to(weights, (len(u), weights.shape[-1]))
    with np.errstate(all="ignore"):  # a start may lead anywhere; what is not finite is left behind
        for stage in stages(residuals, u, delta):
            u, objective, converged = descend(residuals, u, low, high, weights, stage, tolerance)
    return Solution(u, objective, converged)


def stages(residuals: Residuals, u: Array, delta: float) -> list[float]:
    """From the size of the residuals down to delta, by factors of ten."""
    if np.isinf(delta):
        return [delta]
    size = np.nanmedian(np.abs(residuals(u)[0]))
    found = [delta]
    while found[-1] * 10 < size and len(found) < 15:
        found.append(found[-1] * 10)
    return found[::-1]


def descend(
    residuals: Residuals, u: Array, low: Array, high: Array, weights: Array, delta: float, tolerance: float
) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Damped Newton steps, each start with its own damping (Nielsen 1999), until none would gain anything."""
    u = u.copy()
    r, jac = residuals(u)
    objective = total(r, weights, delta)
    damping, grow = np.full(len(u), 1e-2), np.full(len(u), 2.0)
    running = np.isfinite(objective) & np.isfinite(jac).all((1, 2))
    converged = np.zeros(len(u), dtype=bool)
    for _ in range(MAX_STEPS):
        active = np.flatnonzero(running)
        if not len(active):
            break
        step, predicted, reachable = newton_step(
            u[active], r[active], jac[active], low, high, weights[active], delta, damping[active]
        )
        moved = np.clip(u[active] + step, low, high)
        new_r, new_jac = residuals(moved)
        usable = np.isfinite(new_jac).all((1, 2))
        gain = np.where(usable, objective[active] - total(new_r, weights[active], delta), -np.inf)
        better = gain > 0
        done = (reachable <= tolerance * objective[active] + FLOOR) | (~better & (damping[active] >= DAMPING[1]))
        taken = active[better]
        u[taken], r[taken], jac[taken] = moved[better], new_r[better], new_jac[better]
        objective[taken] = total(r[taken], weights[taken], delta)
        ratio = np.where(better, gain / np.maximum(predicted, 1e-300), 0.0)
        easier = np.maximum(1 / 5, 1 - (2 * np.clip(ratio, 0, 1) - 1) ** 3)
        damping[active] = np.clip(damping[active] * np.where(better, easier, grow[active]), *DAMPING)
        grow[active] = np.where(better, 2.0, np.minimum(grow[active] * 2, 1e6))
        converged[active[done]] = True
        running[active[done]] = False
    return u, objective, converged


def total(r: Array, weights: Array, delta: float) -> Array:
    """Objectives [starts]; inf where a residual is not finite."""
    found = (weights * huber(r, delta)).sum(-1)
    return np.where(np.isfinite(found), found, np.inf)


def newton_step(
    u: Array, r: Array, jac: Array, low: Array, high: Array, weights: Array, delta: float, damping: Array
) -> tuple[Array, Array, Array]:
    """A step for each start, the decrease that its model predicts, and what a step that surely holds would gain.

    The curvature is that of the points within delta. It may be that of no point at all, so the damping adds the
    majorising parabola's (reweighted least squares), whose step never fails. A parameter at a bound that would leave it
    stays there.
    """
    size = np.maximum(np.abs(r), 1e-300)
    inner = size <= delta
    gradient = np.einsum("snp,sn->sp", jac, np.where(inner, r, delta * np.sign(r)) * weights)
    held = ((u <= low) & (gradient > 0)) | ((u >= high) & (gradient < 0))
    gradient = np.where(held, 0.0, gradient)
    newton = curvature(jac, np.where(inner, 1.0, 0.0) * weights)
    above = curvature(jac, np.where(inner, 1.0, delta / size) * weights)
    root = np.sqrt(np.maximum(np.einsum("spp->sp", above), 1e-300))
    scaled = gradient / root
    newton, above = (scale_and_hold(m, root, held) for m in (newton, above))
    eye = np.eye(u.shape[1])
    pinned = held[:, :, None] * eye
    damped = newton + damping[:, None, None] * (above + eye) + pinned + 1e-14 * eye
    step = -solve(damped, scaled)
    predicted = -(scaled * step).sum(-1) - 0.5 * np.einsum("sp,spq,sq->s", step, newton, step)
    reachable = 0.5 * (scaled * solve(above + pinned + 1e-14 * eye, scaled)).sum(-1)
    return step / root, np.maximum(predicted, 0.0), reachable


def curvature(jac: Array, weights: Array) -> Array:
    """Jᵀ·diag(weights)·J for each start."""
    return np.asarray((jac * weights[:, :, None]).transpose(0, 2, 1) @ jac)


def scale_and_hold(matrix: Array, root: Array, held: NDArray[np.bool_]) -> Array:
    """Unit diagonal where the majorising matrix has one; rows and columns of held parameters empty."""
    free = ~held
    return matrix / (root[:, :, None] * root[:, None, :]) * (free[:, :, None] & free[:, None, :])


def solve(matrix: Array, right: Array) -> Array:
    """One linear system a start."""
    return np.asarray(np.linalg.solve(matrix, right[:, :, None])[:, :, 0])
