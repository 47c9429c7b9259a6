"""Fits one law to one set of points: many seeded starts, and a plain account of what they found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.stats import qmc

from analysis.errors import FitError
from analysis.fits import solver
from analysis.fits.problem import Points, Problem, bound, in_order, pose, to_data_units, to_parameters
from analysis.laws.form import Law

Array = NDArray[np.float64]
STARTS = 32
CONFIRMED, MOST = 3, 4  # a best minimum that fewer starts reached is searched on, up to so many times the starts
TOLERANCE, POLISH = 1e-9, 1e-15  # relative, of the objective: for all starts; for the best of them
SAME_OBJECTIVE, NEAR_OBJECTIVE = 1e-6, 1e-2  # relative: the same minimum; another one worth telling
SAME_PLACE = 1e-3  # of ln or value, in centred units
UNIDENTIFIED = 1.0  # relative standard error


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """A law fitted to points. Parameters are in the units of the data."""

    law: Law
    parameters: dict[str, float]
    standard_errors: dict[str, float]
    objective: str
    value: float  # of the objective, summed over the points
    converged: bool
    at_bound: tuple[str, ...]
    starts: int
    starts_at_optimum: int
    minima: tuple[dict[str, float], ...]  # other minima within 1 % of the objective, with their `value`
    condition_number: float
    identified: dict[str, bool]
    warnings: tuple[str, ...]
    n: int
    searched: Array = field(repr=False)  # the optimum [p] as the search sees it: a warm start
    problem: Problem = field(repr=False)

    def predict(self, variables: Mapping[str, Array]) -> Array:
        """The law's value at points, in the units of the data."""
        given = {v: np.asarray(variables[v], dtype=np.float64) for v in self.law.variables}
        return np.asarray(self.law.value(given, {k: np.asarray(v) for k, v in self.parameters.items()}))


def fit(
    law: Law,
    variables: Mapping[str, Sequence[float] | Array],
    y: Sequence[float] | Array,
    *,
    objective: str = "huber:1e-3:log",
    weights: Sequence[float] | Array | None = None,
    errors: Sequence[float] | Array | None = None,
    starts: int = STARTS,
    seed: int = 0,
) -> Fit:
    """Fits a law. `variables` by the law's names.

    `weights` multiply the points' share of the objective; under `binomial` they tell of how many tries y is the share.
    `errors` are known standard errors of y, in its units: residuals are told in multiples of them (of error / y if the
    objective is of ln y). Raises FitError for data that the law cannot be fitted to.
    """
    problem = pose(law, variables, y, objective, weights, errors)
    found = search_on(problem, starts, seed)
    best = int(np.argmin(found.objective))
    polished = search(problem, found.parameters[[best]], POLISH)
    if polished.objective[0] <= found.objective[best]:
        found.parameters[best] = polished.parameters[0]
        found.objective[best] = polished.objective[0]
        found.converged[best] = polished.converged[0]
    return account(problem, found)


def fit_points(law: Law, points: Points, *, objective: str, starts: int = STARTS, seed: int = 0) -> Fit:
    """`fit` of points that are kept together."""
    return fit(
        law,
        points.variables,
        points.y,
        objective=objective,
        weights=points.weights,
        errors=points.errors,
        starts=starts,
        seed=seed,
    )


def search_on(problem: Problem, starts: int, seed: int) -> solver.Solution:
    """The ends of all starts: twice as many, and again, while the best one was hardly found again."""
    points = starting_points(problem, MOST * starts, seed)
    found = search(problem, points[:starts], TOLERANCE)
    while len(found.objective) < len(points) and reached(problem, found).sum() < CONFIRMED:
        n = len(found.objective)
        more = search(problem, points[n : 2 * n], TOLERANCE)
        found = solver.Solution(
            np.concatenate([found.parameters, more.parameters]),
            np.concatenate([found.objective, more.objective]),
            np.concatenate([found.converged, more.converged]),
        )
    return found


def reached(problem: Problem, found: solver.Solution) -> NDArray[np.bool_]:
    """Which starts ended at the best minimum."""
    best = found.objective.min()
    rounding = 1e-12 * min(problem.objective.delta, 1.0) * len(problem.y)
    return np.asarray(found.objective <= best * (1 + SAME_OBJECTIVE) + rounding)


def search(problem: Problem, points: Array, tolerance: float) -> solver.Solution:
    """The minima that the points [s, p] lead to."""
    return solver.minimise(
        problem.residuals,
        points,
        problem.low,
        problem.high,
        problem.weights,
        problem.objective.delta,
        tolerance,
    )


# ---- starts ----------------------------------------------------------------------------------------------------------


def starting_points(problem: Problem, n: int, seed: int) -> Array:
    """Low-discrepancy points [n, p] for the parameters that are searched, amplitudes solved for at each."""
    parameters = problem.law.parameters
    searched = [i for i, p in enumerate(parameters) if p.kind != "linear"]
    points = np.zeros((n, len(parameters)))
    if searched:
        cube = qmc.Sobol(len(searched), rng=seed).random_base2(int(np.ceil(np.log2(max(n, 2)))))[:n]
        low, high = (np.array([bound(parameters[i], parameters[i].start[k]) for i in searched]) for k in (0, 1))
        placed = np.array([parameters[i].within is not None for i in searched])
        low, high = np.where(placed, problem.low[searched], low), np.where(placed, problem.high[searched], high)
        points[:, searched] = low + cube * (high - low)
    return np.array([with_amplitudes(problem, point) for point in points])


def with_amplitudes(problem: Problem, u: Array) -> Array:
    """The point with its linear parameters solved for by least squares, relative to y under a log objective."""
    linear = [i for i, p in enumerate(problem.law.parameters) if p.kind == "linear"]
    columns = []
    for i in linear:
        alone = u.copy()
        alone[linear] = 0.0
        alone[i] = 1.0
        given = dict(zip(problem.law.names, to_parameters(problem.law, alone), strict=True))
        columns.append(np.broadcast_to(problem.law.value(problem.variables, given), problem.y.shape))
    found = u.copy()
    relative = 1 / problem.y if problem.objective.log else np.ones_like(problem.y)
    finite = np.nan_to_num(np.stack(columns, axis=1), nan=0.0, posinf=0.0, neginf=0.0)  # else its objective refuses it
    solved, _ = nnls(finite * relative[:, None], problem.y * relative)
    found[linear] = np.maximum(solved, 1e-3 * solved.max())  # an amplitude of 0 has no gradient in its exponent
    return found


# ---- what was found --------------------------------------------------------------------------------------------------


def account(problem: Problem, found: solver.Solution) -> Fit:
    """The best of the ends, how the others compare, and what the data cannot tell."""
    best = int(np.argmin(found.objective))
    u, value = in_order(problem.law, found.parameters[best]), float(found.objective[best])
    if not np.isfinite(value):
        raise FitError(f"{problem.law.name} has no finite objective at any start; is the law right for these data?")
    errors, condition = precision(problem, u)
    natural = to_data_units(problem, u)
    names = problem.law.names
    identified = {name: bool(errors[name] <= UNIDENTIFIED * abs(natural[name])) for name in names}
    at_bound = tuple(n for n, x, a, b in zip(names, u, problem.low, problem.high, strict=True) if x <= a or x >= b)
    return Fit(
        law=problem.law,
        parameters=natural,
        standard_errors=errors,
        objective=problem.objective.name,
        value=problem.objective.total(problem.residuals(u[None])[0][0], problem.weights),
        converged=bool(found.converged[best]),
        at_bound=at_bound,
        starts=len(found.objective),
        starts_at_optimum=int(reached(problem, found).sum()),
        minima=other_minima(problem, found, best),
        condition_number=condition,
        identified=identified,
        warnings=tuple(told(natural, errors, identified, at_bound, bool(found.converged[best]))),
        n=len(problem.y),
        searched=u,
        problem=problem,
    )


def precision(problem: Problem, u: Array) -> tuple[dict[str, float], float]:
    """Standard errors in the units of the data, and the condition number of the scaled derivatives.

    Of an M-estimator with independent errors (Huber 1981, section 7.6). A parameter at a bound, or one that nothing
    depends on, has an infinite one, and the others are told as if it were given.
    """
    r, jac = (part[0] for part in problem.residuals(u[None]))
    columns = jac * np.sqrt(problem.weights)[:, None]
    size = np.linalg.norm(columns, axis=0)
    free = (u > problem.low) & (u < problem.high) & (size > 1e-12 * size.max())
    if not free.any():
        return dict.fromkeys(problem.law.names, float("inf")), float("inf")
    _, singular, vectors = np.linalg.svd(columns[:, free] / size[free], full_matrices=False)
    condition = float(singular[0] / singular[-1]) if singular[-1] > 0 else float("inf")
    inverse = (vectors.T / np.maximum(singular, 1e-150) ** 2) @ vectors / np.outer(size[free], size[free])
    covariance = np.zeros((len(u), len(u)))
    variance = spread(r, problem, int(free.sum()))
    covariance[np.ix_(free, free)] = inverse * variance
    to_units = units_jacobian(problem, u)
    errors = np.sqrt(np.maximum(np.diag(to_units @ covariance @ to_units.T), 0.0))
    return dict(zip(problem.law.names, np.where(free, errors, np.inf).tolist(), strict=True)), condition


def spread(r: Array, problem: Problem, n_parameters: int) -> float:
    """The variance that residuals stand for under Huber's loss: that of least squares if all lie within delta.

    As many points as there are parameters may lie within delta only because the fit goes through them. Of a binomial
    it is known: 1.
    """
    if problem.objective.binomial:
        return 1.0
    freedom, delta = max(len(r) - n_parameters, 1), problem.objective.delta
    root = np.sqrt(problem.weights)
    inside = max(int((np.abs(r) <= delta).sum()) - n_parameters, 0) / freedom
    if inside < 0.2:  # too few to tell the density at zero: the normal's, from the median of the other residuals
        others = np.sort(np.abs(r) * root)[-freedom:]
        return float((1.253 * np.median(others) / 0.6745) ** 2)
    slope = np.clip(r, -delta, delta) * root
    return float((slope**2).sum() / freedom / inside**2)


def units_jacobian(problem: Problem, u: Array) -> Array:
    """Derivatives [p, p] of the parameters in the units of the data by the searched ones, by central differences."""
    names = problem.law.names

    def at(point: Array) -> Array:
        found = to_data_units(problem, point)
        return np.array([found[name] for name in names])

    step = 1e-6 * np.maximum(np.abs(u), 1e-3)
    columns = [(at(u + move) - at(u - move)) / (2 * move.max()) for move in np.diag(step)]
    return np.stack(columns, axis=1)


def other_minima(problem: Problem, found: solver.Solution, best: int) -> tuple[dict[str, float], ...]:
    """Other places, in the units of the data, where starts ended within 1 % of the best objective."""
    value = found.objective[best]
    kept = [in_order(problem.law, found.parameters[best])]
    minima = []
    for i in np.argsort(found.objective):
        u, other = in_order(problem.law, found.parameters[i]), found.objective[i]
        if other > value * (1 + NEAR_OBJECTIVE) or not found.converged[i]:
            continue
        if other <= value * (1 + SAME_OBJECTIVE) or any(
            np.allclose(u, k, rtol=SAME_PLACE, atol=SAME_PLACE) for k in kept
        ):
            continue
        kept.append(u)
        r = problem.residuals(u[None])[0][0]
        minima.append({**to_data_units(problem, u), "value": problem.objective.total(r, problem.weights)})
    return tuple(minima)


def told(
    natural: Mapping[str, float],
    errors: Mapping[str, float],
    identified: Mapping[str, bool],
    at_bound: Sequence[str],
    converged: bool,
) -> list[str]:
    """What a reader has to know before using the numbers, in plain sentences."""
    lines = [] if converged else ["The search did not converge: more steps would still improve the fit."]
    for name in at_bound:
        why = "would have it beyond" if natural[name] else "do not want this term"
        lines.append(f"{name} ended at its bound, {natural[name]:.4g}: the data {why}.")
    return lines + [
        f"{name} is not identified by these data: its standard error, {errors[name]:.3g}, exceeds its value, "
        f"{natural[name]:.4g}; other values fit as well."
        for name, fine in identified.items()
        if not fine and name not in at_bound
    ]
