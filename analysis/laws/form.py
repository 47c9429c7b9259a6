"""What a scaling law is: a function with named variables and parameters. The laws are in loss.py and accuracy.py.

The function returns its value, or its value and its partial derivatives. A law of your own:

    from analysis.laws.form import amplitude, exponent, law, offset

    @law("mine", variables="x", parameters=[amplitude("b", x="c"), exponent("c", -4, 0), offset("e")])
    def mine(x, b, c, e):
        "b·x^c + e"
        return b * x**c + e

Everything broadcasts. A function that returns no partial derivatives gets them by a complex step, which is exact to
rounding if the function is analytic (no abs, no maximum of its parameters).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from analysis.errors import FitError

Array = NDArray[Any]
Values = Mapping[str, Array]
Kind = Literal["linear", "free", "log"]
Quantity = Literal["loss", "accuracy"]

STEP = 1e-30  # of the complex-step derivative; it subtracts nothing, so rounding does not limit how small it can be


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """A parameter and how it is searched.

    `kind`: at the start of a search, linear parameters are computed from the others; log parameters are searched by
    their logarithm. `low` and `high` bound the search, `start` bounds where it begins. Both are in centred units:
    variables and y divided by their geometric means. `carries` says what this division does to the parameter, as powers
    of these means: {"N": "-alpha"} means that A·N^−alpha stays the same if A is multiplied by (mean of N)^−alpha,
    {"x": "1"} that the parameter is multiplied by the mean of x. Linear parameters carry 1/y.
    """

    name: str
    kind: Kind
    low: float
    high: float
    start: tuple[float, float] = (0.0, 1.0)
    carries: Mapping[str, str] = field(default_factory=dict)
    within: str | None = None  # the parameter is a value of this variable, and is searched between its points


def amplitude(name: str, **carries: str) -> Parameter:
    """A factor ≥ 0 of a term. `carries`: variable → its power in the same term."""
    return Parameter(name=name, kind="linear", low=0.0, high=math.inf, carries={"y": "-1"} | carries)


def offset(name: str) -> Parameter:
    """The value that the law falls to, ≥ 0."""
    return amplitude(name)


def exponent(name: str, low: float = 0.0, high: float = 4.0, start: tuple[float, float] = (0.05, 1.0)) -> Parameter:
    """A power between two bounds."""
    return Parameter(name=name, kind="free", low=low, high=high, start=start)


def scale(name: str, start: tuple[float, float] = (1e-2, 1e2), **carries: str) -> Parameter:
    """A positive number of any size, such as the x where a curve bends."""
    return Parameter(name=name, kind="log", low=1e-9, high=1e9, start=start, carries=carries)


@dataclass(frozen=True, kw_only=True, slots=True)
class Law:
    """A form with its parameters. `function(**variables, **parameters)` returns the value, or (value, partials)."""

    name: str
    variables: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    function: Callable[..., Any]
    # Groups of parameters that can be exchanged without a change of the law; sorted by their first members.
    interchangeable: tuple[tuple[str, ...], ...] = ()
    # Variables of one unit, such as tokens and unique tokens: all are divided by the mean of the first one.
    shared_scale: tuple[str, ...] = ()
    of: Quantity = "loss"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the parameters, in their order."""
        return tuple(p.name for p in self.parameters)

    def value(self, variables: Values, parameters: Values) -> Array:
        """The value of the law; parameters and variables broadcast."""
        result = self.function(**variables, **parameters)
        return np.asarray(result[0] if isinstance(result, tuple) else result)

    def value_and_gradient(self, variables: Values, parameters: Values) -> tuple[Array, Array]:
        """The value, and the partial derivatives by the parameters along a new last axis."""
        result = self.function(**variables, **parameters)
        if isinstance(result, tuple):
            value, partials = result
            return value, np.stack([np.broadcast_to(p, np.shape(value)) for p in partials], axis=-1)
        partials = [self._differentiate(variables, parameters, name) for name in self.names]
        return np.asarray(result), np.stack(partials, axis=-1)

    def rename(self, variables: Sequence[str]) -> "Law":
        """The same law with other names for its variables, in their order. Raises FitError on a parameter's name."""
        if tuple(variables) == self.variables:
            return self
        if clash := set(variables) & set(self.names):
            raise FitError(f"{min(clash)!r} is a parameter of the law {self.name}: give the variable another name")
        names = dict(zip(self.variables, variables, strict=True))

        def function(**arguments: Any) -> Any:
            return self.function(**{old: arguments.pop(new) for old, new in names.items()}, **arguments)

        function.__doc__ = self.function.__doc__
        parameters = tuple(
            replace(p, carries={names.get(v, v): c for v, c in p.carries.items()}, within=names.get(p.within or ""))
            for p in self.parameters
        )
        scale = tuple(names[v] for v in self.shared_scale)
        return replace(self, variables=tuple(variables), parameters=parameters, function=function, shared_scale=scale)

    def _differentiate(self, variables: Values, parameters: Values, name: str) -> Array:
        """The partial derivative by one parameter, by a complex step."""
        stepped = {**parameters, name: np.asarray(parameters[name]) + 1j * STEP}
        return np.asarray(self.function(**variables, **stepped).imag / STEP)


LAWS: dict[str, Law] = {}


def law(
    name: str,
    *,
    variables: str,
    parameters: Sequence[Parameter],
    interchangeable: Sequence[tuple[str, ...]] = (),
    shared_scale: Sequence[str] = (),
    of: Quantity = "loss",
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers a function as a law. `variables`: names with spaces between. Raises FitError if two laws share a name.

    The other arguments are those of `Law`.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        if name in LAWS and LAWS[name].function.__qualname__ != function.__qualname__:
            raise FitError(f"the law {name!r} is defined twice: give one of the two another name")
        names = tuple(variables.split())
        LAWS[name] = Law(
            name=name,
            variables=names,
            parameters=tuple(parameters),
            function=function,
            interchangeable=tuple(interchangeable),
            shared_scale=tuple(shared_scale),
            of=of,
        )
        return function

    return register


def find(name: str) -> Law:
    """Finds a registered law by its name. Raises FitError that lists all names."""
    if name not in LAWS:
        raise FitError(f"unknown law {name!r}; known: {', '.join(sorted(LAWS))}")
    return LAWS[name]
