"""Robust nonlinear least squares from many starts at once: damped Newton steps on Σ w·ρ(r), within bounds.

`scipy.optimize.least_squares` runs one start at a time, and it is slow where δ is small compared with the residuals,
because almost no point has curvature there. Here δ falls to its final value in stages, and all starts step together.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
# parameters [starts, p] → residuals [starts, n] and their derivatives [starts, n, p]
Residuals = Callable[[Array], tuple[Array, Array]]

MAX_STEPS = 200  # per stage
FLOOR = 1e-30  # an objective that is zero except for rounding
DAMPING = (1e-12, 1e12)


@dataclass(frozen=True, slots=True)
class Solution:
    """Where all starts ended: parameters [starts, p], objectives [starts], and whether each start converged."""

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
    """Moves every start [starts, p] to a minimum of Σ weights·huber(residuals, delta) within the bounds [p].

    `weights`: [n], or [starts, n] if each start has its own, as in a bootstrap. A start has converged when a step that
    always succeeds would lower its objective by less than the relative `tolerance`.
    """
    u = np.clip(start, low, high)
    weights = np.broadcast_to(weights, (len(u), weights.shape[-1]))
    with np.errstate(all="ignore"):  # a start can lead to values that are not finite; such starts stop
        for stage in list_stages(residuals, u, delta):
            u, objective, converged = descend(residuals, u, low, high, weights, stage, tolerance)
    return Solution(u, objective, converged)


def list_stages(residuals: Residuals, u: Array, delta: float) -> list[float]:
    """Values of δ from the size of the residuals down to delta, by factors of ten."""
    if np.isinf(delta):
        return [delta]
    size = np.nanmedian(np.abs(residuals(u)[0]))
    stages = [delta]
    while stages[-1] * 10 < size and len(stages) < 15:
        stages.append(stages[-1] * 10)
    return stages[::-1]


def descend(
    residuals: Residuals, u: Array, low: Array, high: Array, weights: Array, delta: float, tolerance: float
) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Damped Newton steps, until no step lowers any objective. Each start has its own damping (Nielsen 1999)."""
    u = u.copy()
    r, jac = residuals(u)
    objective = sum_losses(r, weights, delta)
    damping, growth = np.full(len(u), 1e-2), np.full(len(u), 2.0)
    running = np.isfinite(objective) & np.isfinite(jac).all((1, 2))
    converged = np.zeros(len(u), dtype=bool)
    for _ in range(MAX_STEPS):
        active = np.flatnonzero(running)
        if not len(active):
            break
        step, predicted, reachable = newton_step(
            u[active], r[active], jac[active], low, high, weights[active], delta, damping[active]
        )
        new_u = np.clip(u[active] + step, low, high)
        new_r, new_jac = residuals(new_u)
        usable = np.isfinite(new_jac).all((1, 2))
        gain = np.where(usable, objective[active] - sum_losses(new_r, weights[active], delta), -np.inf)
        better = gain > 0
        done = (reachable <= tolerance * objective[active] + FLOOR) | (~better & (damping[active] >= DAMPING[1]))
        accepted = active[better]
        u[accepted], r[accepted], jac[accepted] = new_u[better], new_r[better], new_jac[better]
        objective[accepted] = sum_losses(r[accepted], weights[accepted], delta)
        damping[active], growth[active] = adapt_damping(damping[active], growth[active], better, gain, predicted)
        converged[active[done]] = True
        running[active[done]] = False
    return u, objective, converged


def adapt_damping(
    damping: Array, growth: Array, better: NDArray[np.bool_], gain: Array, predicted: Array
) -> tuple[Array, Array]:
    """Less damping after a step that gained what was predicted, more after a step that gained nothing."""
    ratio = np.where(better, gain / np.maximum(predicted, 1e-300), 0.0)
    decrease = np.maximum(1 / 5, 1 - (2 * np.clip(ratio, 0, 1) - 1) ** 3)
    new_damping = np.clip(damping * np.where(better, decrease, growth), *DAMPING)
    return new_damping, np.where(better, 2.0, np.minimum(growth * 2, 1e6))


def sum_losses(r: Array, weights: Array, delta: float) -> Array:
    """Objectives [starts]; inf where a residual is not finite."""
    total = (weights * huber(r, delta)).sum(-1)
    return np.where(np.isfinite(total), total, np.inf)


def newton_step(
    u: Array, r: Array, jac: Array, low: Array, high: Array, weights: Array, delta: float, damping: Array
) -> tuple[Array, Array, Array]:
    """The step of each start, the decrease that its model predicts, and the gain of a step that always succeeds.

    The curvature is that of the points within delta. There may be no such point, so the damping adds the curvature of
    the majorising parabola (reweighted least squares), whose step always succeeds. A parameter at a bound stays there
    if its step would leave the bounds.
    """
    size = np.maximum(np.abs(r), 1e-300)
    inside = size <= delta
    gradient = np.einsum("snp,sn->sp", jac, np.where(inside, r, delta * np.sign(r)) * weights)
    pinned = ((u <= low) & (gradient > 0)) | ((u >= high) & (gradient < 0))
    gradient = np.where(pinned, 0.0, gradient)
    newton = curvature(jac, np.where(inside, 1.0, 0.0) * weights)
    above = curvature(jac, np.where(inside, 1.0, delta / size) * weights)
    root = np.sqrt(np.maximum(np.einsum("spp->sp", above), 1e-300))
    slope = gradient / root
    newton, above = (scale_and_pin(m, root, pinned) for m in (newton, above))
    eye = np.eye(u.shape[1])
    fixed = pinned[:, :, None] * eye
    step = -solve(newton + damping[:, None, None] * (above + eye) + fixed + 1e-14 * eye, slope)
    predicted = -(slope * step).sum(-1) - 0.5 * np.einsum("sp,spq,sq->s", step, newton, step)
    reachable = 0.5 * (slope * solve(above + fixed + 1e-14 * eye, slope)).sum(-1)
    return step / root, np.maximum(predicted, 0.0), reachable


def curvature(jac: Array, weights: Array) -> Array:
    """Jᵀ·diag(weights)·J of each start."""
    return np.asarray((jac * weights[:, :, None]).transpose(0, 2, 1) @ jac)


def scale_and_pin(matrix: Array, root: Array, pinned: NDArray[np.bool_]) -> Array:
    """The matrix with a diagonal of ones where the majorising one has it, and zeros for pinned parameters."""
    free = ~pinned
    return matrix / (root[:, :, None] * root[:, None, :]) * (free[:, :, None] & free[:, None, :])


def solve(matrix: Array, right: Array) -> Array:
    """Solves one linear system per start."""
    return np.asarray(np.linalg.solve(matrix, right[:, :, None])[:, :, 0])
