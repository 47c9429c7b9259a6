"""The points of a fit as the search sees them: checked, centred, and with the way back to the units of the data."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.errors import BadValues, FitError, NoVariation, TooFewPoints
from analysis.fits.objectives import Objective, parse
from analysis.laws.form import Law, Parameter

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Points:
    """What a law is fitted to: columns [n] in the units of the data. Weights and errors: see `fit.fit`."""

    variables: Mapping[str, Array]
    y: Array
    weights: Array | None = None
    errors: Array | None = None

    def take(self, rows: NDArray[np.intp]) -> "Points":
        """Some of the points."""
        return Points(
            variables={v: x[rows] for v, x in self.variables.items()},
            y=self.y[rows],
            weights=None if self.weights is None else self.weights[rows],
            errors=None if self.errors is None else self.errors[rows],
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """The points of a fit in centred units, and what is minimised over them."""

    law: Law
    variables: dict[str, Array]
    centres: dict[str, float]
    y: Array
    y_centre: float
    weights: Array
    errors: Array  # known ones of the residuals, which are told in their units
    objective: Objective

    @property
    def low(self) -> Array:
        return np.array([bound(p, self.variables[p.within].min() if p.within else p.low) for p in self.law.parameters])

    @property
    def high(self) -> Array:
        return np.array([bound(p, self.variables[p.within].max() if p.within else p.high) for p in self.law.parameters])

    def residuals(self, u: Array) -> tuple[Array, Array]:
        """Residuals [starts, n] and derivatives [starts, n, p] of searched parameters [starts, p]."""
        r, jac = self.residuals_at(self.variables, self.y, u)
        return r / self.errors, jac / self.errors[:, None]

    def residuals_at(self, variables: Mapping[str, Array], y: Array, u: Array) -> tuple[Array, Array]:
        """Residuals [starts, m] and derivatives [starts, m, p] at other points, in centred units and without errors."""
        natural = to_parameters(self.law, u)
        given = {name: column[:, None] for name, column in zip(self.law.names, natural.T, strict=True)}
        shaped = {v: x[None, :] for v, x in variables.items()}
        with np.errstate(all="ignore"):  # a start may lead anywhere; what is not finite is refused by its objective
            value, gradient = self.law.value_and_gradient(shaped, given)
            chain = np.where([p.kind == "log" for p in self.law.parameters], natural, 1.0)
            return self.objective.residuals(value, gradient * chain[:, None, :], y)


def pose(
    law: Law,
    variables: Mapping[str, Sequence[float] | Array],
    y: Sequence[float] | Array,
    objective: str,
    weights: Sequence[float] | Array | None = None,
    errors: Sequence[float] | Array | None = None,
) -> Problem:
    """Checks the data and centres it. What the arguments are: see `fit.fit`."""
    missing = [v for v in law.variables if v not in variables]
    if missing:
        raise FitError(f"the law {law.name} needs the variable {missing[0]!r}; given: {', '.join(variables)}")
    given = {v: np.asarray(variables[v], dtype=float) for v in law.variables}
    target = np.asarray(y, dtype=float)
    aim = parse(objective)
    check_points(law, given, target, aim)
    share, known = told_or_one("weights", weights, len(target)), told_or_one("errors", errors, len(target))
    if aim.binomial and weights is None:
        raise FitError("binomial needs weights: of how many tries each y is the share")
    if aim.binomial and len(bad := np.flatnonzero(share % 1)):
        raise BadValues(f"binomial needs whole numbers of tries as weights; they are not in {rows(bad)}")
    if aim.binomial and errors is not None:
        raise FitError("binomial takes no errors: they follow from the shares and the tries")
    centres = {v: float(np.exp(np.log(given[leader(law, v)]).mean())) for v in given}
    # Shares are not centred: their laws are bounded by 1.
    middle = float(np.exp(np.log(target).mean())) if aim.log and law.of == "loss" else 1.0
    return Problem(
        law=law,
        variables={v: x / centres[v] for v, x in given.items()},
        centres=centres,
        y=target / middle,
        y_centre=middle,
        weights=share,
        errors=known / target if aim.log and errors is not None else known,
        objective=aim,
    )


def told_or_one(name: str, given: Sequence[float] | Array | None, n: int) -> Array:
    """The numbers, or ones. Raises FitError on what is not above 0."""
    found = np.ones(n) if given is None else np.asarray(given, dtype=float)
    if len(found) != n:
        raise FitError(f"{len(found)} {name} for {n} points")
    if len(bad := np.flatnonzero(~(np.isfinite(found) & (found > 0)))):
        raise BadValues(f"{name} have to be above 0; they are not in {rows(bad)}: leave these points out")
    return found


def leader(law: Law, variable: str) -> str:
    """The variable by whose mean this one is centred: its own, unless it shares a scale."""
    return law.shared_scale[0] if variable in law.shared_scale else variable


def check_points(law: Law, given: Mapping[str, Array], y: Array, objective: Objective) -> None:
    """Raises FitError on points that no fit can use; rows are counted from 1."""
    for name, column in {**given, "y": y}.items():
        if len(column) != len(y):
            raise FitError(f"{name} has {len(column)} values, y has {len(y)}")
        if len(bad := np.flatnonzero(~np.isfinite(column))):
            raise BadValues(f"{name} is not finite in {rows(bad)}; remove these points or mend them")
        positive = name != "y" or objective.log
        if positive and len(bad := np.flatnonzero(column <= 0)):
            why = f"under the objective {objective.name}" if name == "y" else f"in the law {law.name}"
            raise BadValues(f"{name} is not above 0 in {rows(bad)}, as it has to be {why}")
    if (objective.binomial or law.of == "accuracy") and len(bad := np.flatnonzero((y < 0) | (y > 1))):
        why = "under the objective binomial" if objective.binomial else f"in the law {law.name}"
        raise BadValues(f"y is no share between 0 and 1 in {rows(bad)}, as it has to be {why}")
    if len(y) < len(law.parameters) + 1:
        raise TooFewPoints(f"{len(y)} points are too few for the {len(law.parameters)} parameters of {law.name}")
    for name, column in given.items():
        if np.ptp(column) == 0:
            raise NoVariation(f"{name} is {column[0]:g} in all points; {law.name} needs it to vary")
    places = len(np.unique(np.stack(list(given.values())), axis=1).T)
    if places < len(law.parameters):
        where = f"{places} different values of {', '.join(given)}"
        raise TooFewPoints(f"{where} are too few for the {len(law.parameters)} parameters of {law.name}")


def rows(indices: NDArray[np.intp]) -> str:
    """`rows 3, 7 and 12 more`, counted from 1."""
    shown = ", ".join(str(i + 1) for i in indices[:5])
    return f"row{'s' * (len(indices) > 1)} {shown}" + f" and {len(indices) - 5} more" * (len(indices) > 5)


# ---- between the search and the data ---------------------------------------------------------------------------------


def bound(parameter: Parameter, value: float) -> float:
    """A bound as the search sees it."""
    return float(np.log(value)) if parameter.kind == "log" else value


def to_parameters(law: Law, u: Array) -> Array:
    """Searched parameters [..., p] as the law takes them, still in centred units."""
    return np.where([p.kind == "log" for p in law.parameters], np.exp(np.clip(u, -700, 700)), u)


def to_data_units(problem: Problem, u: Array) -> dict[str, float]:
    """Searched parameters [p] as the law takes them, for variables and y in the units of the data."""
    found = dict(zip(problem.law.names, to_parameters(problem.law, u).tolist(), strict=True))
    return {p.name: found[p.name] * factor(problem, p, found) for p in problem.law.parameters}


def factor(problem: Problem, parameter: Parameter, found: Mapping[str, float]) -> float:
    """What centring has multiplied into a parameter, undone."""
    centres = {**problem.centres, "y": problem.y_centre}
    return float(np.exp(-sum(power(p, found) * np.log(centres[v]) for v, p in parameter.carries.items())))


def power(carried: str, found: Mapping[str, float]) -> float:
    """`alpha-1`, `-beta` or `1` with the parameters' values in it."""
    terms = re.findall(r"[+-]?[^+-]+", carried)
    return sum(-value(t[1:], found) if t[0] == "-" else value(t.lstrip("+"), found) for t in terms)


def value(term: str, found: Mapping[str, float]) -> float:
    """A parameter's value, or a number."""
    return found[term] if term in found else float(term)


def in_order(law: Law, u: Array) -> Array:
    """The parameters [p] with interchangeable groups in the order of their first members."""
    groups = [[law.names.index(name) for name in group] for group in law.interchangeable]
    ordered = sorted(groups, key=lambda group: u[group[0]])
    found = u.copy()
    for place, group in zip(groups, ordered, strict=True):
        found[place] = u[group]
    return found
