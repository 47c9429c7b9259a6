"""Fits one law to one set of points: many seeded starts, and a report of what the data say and do not say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.stats import qmc

from analysis.errors import FitError
from analysis.fits import solver
from analysis.fits.problem import Points, Problem, pose, sort_groups, to_data_units, to_parameters, to_search
from analysis.laws.form import Law

Array = NDArray[np.float64]
STARTS = 32
CONFIRMED, MOST = 3, 4  # starts that must reach the best minimum; else more starts follow, up to so many times as many
TOLERANCE, POLISH = 1e-9, 1e-15  # relative, of the objective: for all starts; for the best of them
SAME_OBJECTIVE, NEAR_OBJECTIVE = 1e-6, 1e-2  # relative: the same minimum; another minimum that is reported
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
        """The value of the law at points, in the units of the data."""
        columns = {v: np.asarray(variables[v], dtype=np.float64) for v in self.law.variables}
        return np.asarray(self.law.value(columns, {k: np.asarray(v) for k, v in self.parameters.items()}))


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
    """Fits a law. `variables` are named as in the law.

    `weights` multiply each point's loss in the objective; under `binomial` they are the number of tries of which y is
    the share. `errors` are known standard errors of y, in its units: residuals are divided by them (by error / y if the
    objective is of ln y). Raises FitError for data that the law cannot be fitted to.
    """
    problem = pose(law, variables, y, objective, weights, errors)
    ends = search_until_confirmed(problem, starts, seed)
    best = int(np.argmin(ends.objective))
    polished = search(problem, ends.parameters[[best]], POLISH)
    if polished.objective[0] <= ends.objective[best]:
        ends.parameters[best] = polished.parameters[0]
        ends.objective[best] = polished.objective[0]
        ends.converged[best] = polished.converged[0]
    return summarise(problem, ends)


def fit_points(law: Law, points: Points, *, objective: str, starts: int = STARTS, seed: int = 0) -> Fit:
    """Fits a law to `Points`."""
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


def search_until_confirmed(problem: Problem, starts: int, seed: int) -> solver.Solution:
    """The ends of all starts; the starts are doubled while fewer than CONFIRMED of them reach the best minimum."""
    points = place_starts(problem, MOST * starts, seed)
    ends = search(problem, points[:starts], TOLERANCE)
    while len(ends.objective) < len(points) and is_at_optimum(problem, ends).sum() < CONFIRMED:
        n = len(ends.objective)
        more = search(problem, points[n : 2 * n], TOLERANCE)
        ends = solver.Solution(
            np.concatenate([ends.parameters, more.parameters]),
            np.concatenate([ends.objective, more.objective]),
            np.concatenate([ends.converged, more.converged]),
        )
    return ends


def is_at_optimum(problem: Problem, ends: solver.Solution) -> NDArray[np.bool_]:
    """Which starts ended at the best minimum."""
    best = ends.objective.min()
    rounding = 1e-12 * min(problem.objective.delta, 1.0) * len(problem.y)
    return np.asarray(ends.objective <= best * (1 + SAME_OBJECTIVE) + rounding)


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


def place_starts(problem: Problem, n: int, seed: int) -> Array:
    """Low-discrepancy points [n, p] of the parameters that are searched; at each, the amplitudes are solved for."""
    parameters = problem.law.parameters
    searched = [i for i, p in enumerate(parameters) if p.kind != "linear"]
    points = np.zeros((n, len(parameters)))
    if searched:
        cube = qmc.Sobol(len(searched), rng=seed).random_base2(int(np.ceil(np.log2(max(n, 2)))))[:n]
        low, high = (np.array([to_search(parameters[i], parameters[i].start[k]) for i in searched]) for k in (0, 1))
        within = np.array([parameters[i].within is not None for i in searched])
        low, high = np.where(within, problem.low[searched], low), np.where(within, problem.high[searched], high)
        points[:, searched] = low + cube * (high - low)
    return np.array([solve_amplitudes(problem, point) for point in points])


def solve_amplitudes(problem: Problem, u: Array) -> Array:
    """The point with its linear parameters solved for by least squares, relative to y under a log objective."""
    linear = [i for i, p in enumerate(problem.law.parameters) if p.kind == "linear"]
    columns = []
    for i in linear:
        alone = u.copy()
        alone[linear] = 0.0
        alone[i] = 1.0
        parameters = dict(zip(problem.law.names, to_parameters(problem.law, alone), strict=True))
        columns.append(np.broadcast_to(problem.law.value(problem.variables, parameters), problem.y.shape))
    relative = 1 / problem.y if problem.objective.log else np.ones_like(problem.y)
    # What is not finite becomes 0 here; the objective of such a start is inf.
    finite = np.nan_to_num(np.stack(columns, axis=1), nan=0.0, posinf=0.0, neginf=0.0)
    amplitudes, _ = nnls(finite * relative[:, None], problem.y * relative)
    point = u.copy()
    point[linear] = np.maximum(amplitudes, 1e-3 * amplitudes.max())  # with 0, its exponent would have no gradient
    return point


# ---- the report ------------------------------------------------------------------------------------------------------


def summarise(problem: Problem, ends: solver.Solution) -> Fit:
    """The best of the ends, how the others compare, and which parameters the data do not determine."""
    best = int(np.argmin(ends.objective))
    if not np.isfinite(ends.objective[best]):
        raise FitError(f"{problem.law.name} has no finite objective at any start; is the law right for these data?")
    u, converged = sort_groups(problem.law, ends.parameters[best]), bool(ends.converged[best])
    errors, condition = estimate_errors(problem, u)
    parameters = to_data_units(problem, u)
    names = problem.law.names
    identified = {name: bool(errors[name] <= UNIDENTIFIED * abs(parameters[name])) for name in names}
    at_bound = tuple(n for n, x, a, b in zip(names, u, problem.low, problem.high, strict=True) if x <= a or x >= b)
    return Fit(
        law=problem.law,
        parameters=parameters,
        standard_errors=errors,
        objective=problem.objective.name,
        value=problem.objective.total(problem.residuals(u[None])[0][0], problem.weights),
        converged=converged,
        at_bound=at_bound,
        starts=len(ends.objective),
        starts_at_optimum=int(is_at_optimum(problem, ends).sum()),
        minima=list_other_minima(problem, ends, best),
        condition_number=condition,
        identified=identified,
        warnings=tuple(write_warnings(parameters, errors, identified, at_bound, converged)),
        n=len(problem.y),
        searched=u,
        problem=problem,
    )


def estimate_errors(problem: Problem, u: Array) -> tuple[dict[str, float], float]:
    """Standard errors in the units of the data, and the condition number of the scaled derivatives.

    They are those of an M-estimator with independent errors (Huber 1981, section 7.6). A parameter at a bound, or one
    that nothing depends on, has an infinite error; the errors of the others take its value as known.
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
    covariance[np.ix_(free, free)] = inverse * estimate_variance(r, problem, int(free.sum()))
    to_units = differentiate_units(problem, u)
    errors = np.sqrt(np.maximum(np.diag(to_units @ covariance @ to_units.T), 0.0))
    return dict(zip(problem.law.names, np.where(free, errors, np.inf).tolist(), strict=True)), condition


def estimate_variance(r: Array, problem: Problem, n_parameters: int) -> float:
    """The variance of the residuals under Huber's loss; if all are within delta, it is that of least squares.

    As many points as there are parameters can be within delta only because the fit goes through them. The variance of a
    binomial is known: 1.
    """
    if problem.objective.binomial:
        return 1.0
    freedom, delta = max(len(r) - n_parameters, 1), problem.objective.delta
    root = np.sqrt(problem.weights)
    inside = max(int((np.abs(r) <= delta).sum()) - n_parameters, 0) / freedom
    if inside < 0.2:  # too few for the density at zero: take the normal's, from the median of the other residuals
        others = np.sort(np.abs(r) * root)[-freedom:]
        return float((1.253 * np.median(others) / 0.6745) ** 2)
    slope = np.clip(r, -delta, delta) * root
    return float((slope**2).sum() / freedom / inside**2)


def differentiate_units(problem: Problem, u: Array) -> Array:
    """Derivatives [p, p] of the parameters in the units of the data by the searched ones, by central differences."""
    names = problem.law.names

    def evaluate(point: Array) -> Array:
        parameters = to_data_units(problem, point)
        return np.array([parameters[name] for name in names])

    step = 1e-6 * np.maximum(np.abs(u), 1e-3)
    columns = [(evaluate(u + move) - evaluate(u - move)) / (2 * move.max()) for move in np.diag(step)]
    return np.stack(columns, axis=1)


def list_other_minima(problem: Problem, ends: solver.Solution, best: int) -> tuple[dict[str, float], ...]:
    """Other points, in the units of the data, where starts ended within 1 % of the best objective."""
    value = ends.objective[best]
    known = [sort_groups(problem.law, ends.parameters[best])]
    minima = []
    for i in np.argsort(ends.objective):
        u, other = sort_groups(problem.law, ends.parameters[i]), ends.objective[i]
        if other > value * (1 + NEAR_OBJECTIVE) or not ends.converged[i]:
            continue
        if other <= value * (1 + SAME_OBJECTIVE) or any(
            np.allclose(u, k, rtol=SAME_PLACE, atol=SAME_PLACE) for k in known
        ):
            continue
        known.append(u)
        r = problem.residuals(u[None])[0][0]
        minima.append({**to_data_units(problem, u), "value": problem.objective.total(r, problem.weights)})
    return tuple(minima)


def write_warnings(
    parameters: Mapping[str, float],
    errors: Mapping[str, float],
    identified: Mapping[str, bool],
    at_bound: Sequence[str],
    converged: bool,
) -> list[str]:
    """What a reader has to know before using the numbers, one sentence per fact."""
    lines = [] if converged else ["The search did not converge: more steps would still improve the fit."]
    for name in at_bound:
        why = "fit better beyond it" if parameters[name] else "do not need this term"
        lines.append(f"{name} ended at its bound, {parameters[name]:.4g}: the data {why}.")
    return lines + [
        f"{name} is not identified by these data: its standard error, {errors[name]:.3g}, exceeds its value, "
        f"{parameters[name]:.4g}; other values fit as well."
        for name, fine in identified.items()
        if not fine and name not in at_bound
    ]
