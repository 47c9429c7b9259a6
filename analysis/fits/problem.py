"""The points of a fit as the search sees them: checked and centred, with the way back to the units of the data."""

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
    """What a law is fitted to: columns [n] in the units of the data. `fit.fit` explains weights and errors."""

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
    errors: Array  # known errors of the residuals; residuals are divided by them
    objective: Objective

    @property
    def low(self) -> Array:
        variables = self.variables
        return np.array([to_search(p, variables[p.within].min() if p.within else p.low) for p in self.law.parameters])

    @property
    def high(self) -> Array:
        variables = self.variables
        return np.array([to_search(p, variables[p.within].max() if p.within else p.high) for p in self.law.parameters])

    def residuals(self, u: Array) -> tuple[Array, Array]:
        """Residuals [starts, n] and derivatives [starts, n, p] of searched parameters [starts, p]."""
        r, jac = self.residuals_at(self.variables, self.y, u)
        return r / self.errors, jac / self.errors[:, None]

    def residuals_at(self, variables: Mapping[str, Array], y: Array, u: Array) -> tuple[Array, Array]:
        """Residuals [starts, m] and derivatives [starts, m, p] at other points, in centred units, without errors."""
        natural = to_parameters(self.law, u)
        parameters = {name: column[:, None] for name, column in zip(self.law.names, natural.T, strict=True)}
        columns = {v: x[None, :] for v, x in variables.items()}
        with np.errstate(all="ignore"):  # a start can lead to values that are not finite; its objective is then inf
            value, gradient = self.law.value_and_gradient(columns, parameters)
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
    """Checks the data and centres them. `fit.fit` explains the arguments."""
    if missing := [v for v in law.variables if v not in variables]:
        raise FitError(f"the law {law.name} needs the variable {missing[0]!r}; the data have: {', '.join(variables)}")
    columns = {v: np.asarray(variables[v], dtype=float) for v in law.variables}
    target, aim = np.asarray(y, dtype=float), parse(objective)
    check_points(law, columns, target, aim)
    tries, known = check_positive("weights", weights, len(target)), check_positive("errors", errors, len(target))
    if aim.binomial:
        check_tries(None if weights is None else tries, errors is not None)
    centres = {v: float(np.exp(np.log(columns[find_leader(law, v)]).mean())) for v in columns}
    # Shares are not centred: their laws are bounded by 1.
    y_centre = float(np.exp(np.log(target).mean())) if aim.log and law.of == "loss" else 1.0
    return Problem(
        law=law,
        variables={v: x / centres[v] for v, x in columns.items()},
        centres=centres,
        y=target / y_centre,
        y_centre=y_centre,
        weights=tries,
        errors=known / target if aim.log and errors is not None else known,
        objective=aim,
    )


def check_positive(name: str, numbers: Sequence[float] | Array | None, n: int) -> Array:
    """The numbers, or ones if there are none. Raises FitError on a number that is not above 0."""
    column = np.ones(n) if numbers is None else np.asarray(numbers, dtype=float)
    if len(column) != n:
        raise FitError(f"{len(column)} {name} for {n} points")
    if len(bad := np.flatnonzero(~(np.isfinite(column) & (column > 0)))):
        raise BadValues(f"{name} have to be above 0; they are not in {list_rows(bad)}: leave these points out")
    return column


def check_tries(tries: Array | None, has_errors: bool) -> None:
    """Raises FitError if the objective binomial has no whole numbers of tries, or has errors."""
    if tries is None:
        raise FitError("binomial needs weights: the number of tries of which each y is the share")
    if len(bad := np.flatnonzero(tries % 1)):
        raise BadValues(f"binomial needs whole numbers of tries as weights; they are not in {list_rows(bad)}")
    if has_errors:
        raise FitError("binomial takes no errors: they follow from the shares and the tries")


def find_leader(law: Law, variable: str) -> str:
    """The variable whose mean centres this one: itself, unless it shares a scale."""
    return law.shared_scale[0] if variable in law.shared_scale else variable


def check_points(law: Law, variables: Mapping[str, Array], y: Array, objective: Objective) -> None:
    """Raises FitError on points that no fit can use; rows are counted from 1."""
    for name, column in {**variables, "y": y}.items():
        if len(column) != len(y):
            raise FitError(f"{name} has {len(column)} values, y has {len(y)}")
        if len(bad := np.flatnonzero(~np.isfinite(column))):
            raise BadValues(f"{name} is not finite in {list_rows(bad)}; remove or fix these points")
        positive = name != "y" or objective.log
        if positive and len(bad := np.flatnonzero(column <= 0)):
            why = f"under the objective {objective.name}" if name == "y" else f"in the law {law.name}"
            raise BadValues(f"{name} is not above 0 in {list_rows(bad)}, as it has to be {why}")
    if (objective.binomial or law.of == "accuracy") and len(bad := np.flatnonzero((y < 0) | (y > 1))):
        why = "under the objective binomial" if objective.binomial else f"in the law {law.name}"
        raise BadValues(f"y is no share between 0 and 1 in {list_rows(bad)}, as it has to be {why}")
    check_number(law, variables, len(y))


def check_number(law: Law, variables: Mapping[str, Array], n: int) -> None:
    """Raises FitError if there are too few points, or too few different ones, for the parameters of the law."""
    if n < len(law.parameters) + 1:
        raise TooFewPoints(f"{n} points are too few for the {len(law.parameters)} parameters of {law.name}")
    for name, column in variables.items():
        if np.ptp(column) == 0:
            raise NoVariation(f"{name} is {column[0]:g} in all points; {law.name} needs it to vary")
    places = len(np.unique(np.stack(list(variables.values())), axis=1).T)
    if places < len(law.parameters):
        where = f"{places} different values of {', '.join(variables)}"
        raise TooFewPoints(f"{where} are too few for the {len(law.parameters)} parameters of {law.name}")


def list_rows(indices: NDArray[np.intp]) -> str:
    """`rows 3, 7 and 12 more`, counted from 1."""
    first = ", ".join(str(i + 1) for i in indices[:5])
    return f"row{'s' * (len(indices) > 1)} {first}" + f" and {len(indices) - 5} more" * (len(indices) > 5)


# ---- between the search and the data ---------------------------------------------------------------------------------


def to_search(parameter: Parameter, value: float) -> float:
    """A value of the parameter as the search sees it."""
    return float(np.log(value)) if parameter.kind == "log" else value


def to_parameters(law: Law, u: Array) -> Array:
    """Searched parameters [..., p] as the law takes them, still in centred units."""
    return np.where([p.kind == "log" for p in law.parameters], np.exp(np.clip(u, -700, 700)), u)


def to_data_units(problem: Problem, u: Array) -> dict[str, float]:
    """Searched parameters [p] as the law takes them, for variables and y in the units of the data."""
    centred = dict(zip(problem.law.names, to_parameters(problem.law, u).tolist(), strict=True))
    return {p.name: centred[p.name] * data_unit(problem, p, centred) for p in problem.law.parameters}


def data_unit(problem: Problem, parameter: Parameter, centred: Mapping[str, float]) -> float:
    """The factor from a centred parameter to the units of the data."""
    centres = {**problem.centres, "y": problem.y_centre}
    return float(np.exp(-sum(evaluate_power(p, centred) * np.log(centres[v]) for v, p in parameter.carries.items())))


def evaluate_power(power: str, parameters: Mapping[str, float]) -> float:
    """The value of a power such as `alpha-1`, `-beta` or `1`."""
    terms = re.findall(r"[+-]?[^+-]+", power)
    return sum(
        -evaluate_term(t[1:], parameters) if t[0] == "-" else evaluate_term(t.lstrip("+"), parameters) for t in terms
    )


def evaluate_term(term: str, parameters: Mapping[str, float]) -> float:
    """The value of a parameter, or a number."""
    return parameters[term] if term in parameters else float(term)


def sort_groups(law: Law, u: Array) -> Array:
    """The parameters [p] with interchangeable groups in the order of their first members."""
    groups = [[law.names.index(name) for name in group] for group in law.interchangeable]
    ordered = sorted(groups, key=lambda group: u[group[0]])
    result = u.copy()
    for place, group in zip(groups, ordered, strict=True):
        result[place] = u[group]
    return result
