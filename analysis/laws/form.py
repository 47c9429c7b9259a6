"""What a scaling law is: a form with named parameters and gradients. The forms are in loss.py, accuracy.py.

A law is one function of its variables and parameters; it gives its value, or its value and its partial derivatives.
A law of your own:

    from analysis.laws.form import amplitude, exponent, law, offset

    @law("mine", variables="x", parameters=[amplitude("b", x="c"), exponent("c", -4, 0), offset("e")])
    def mine(x, b, c, e):
        "b·x^c + e"
        return b * x**c + e

Everything broadcasts. Without partial derivatives they are taken by a complex step, which is exact to rounding if the
function is analytic (no abs, no maximum on its parameters).
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

STEP = 1e-30  # of the complex-step derivative: no difference is taken, so it can be as small as this


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """A parameter and how it is searched.

    `kind`: linear ones are solved for where the others are given; log ones are searched by their logarithm. `low` and
    `high` bound the search, `start` bounds where it begins. Both are in centred units: variables divided by their
    geometric means, y too. `carries` says what that does to the parameter, as powers of those means: {"N": "-alpha"}
    means that A·N^−alpha is kept by multiplying A with (mean of N)^−alpha, {"x": "1"} with the mean of x itself. Linear
    parameters carry 1/y.
    """

    name: str
    kind: Kind
    low: float
    high: float
    start: tuple[float, float] = (0.0, 1.0)
    carries: Mapping[str, str] = field(default_factory=dict)
    within: str | None = None  # a place on this variable's axis: searched where there are points


def amplitude(name: str, **carries: str) -> Parameter:
    """A factor ≥ 0 of a term. `carries`: variable → the power that it is raised to in the same term."""
    return Parameter(name=name, kind="linear", low=0.0, high=math.inf, carries={"y": "-1"} | carries)


def offset(name: str) -> Parameter:
    """What is left in the limit, ≥ 0."""
    return amplitude(name)


def exponent(name: str, low: float = 0.0, high: float = 4.0, start: tuple[float, float] = (0.05, 1.0)) -> Parameter:
    """A power between two bounds."""
    return Parameter(name=name, kind="free", low=low, high=high, start=start)


def scale(name: str, start: tuple[float, float] = (1e-2, 1e2), **carries: str) -> Parameter:
    """A positive number of any size, such as the place of a bend."""
    return Parameter(name=name, kind="log", low=1e-9, high=1e9, start=start, carries=carries)


@dataclass(frozen=True, kw_only=True, slots=True)
class Law:
    """A form with its parameters. `function(**variables, **parameters)` gives the value, or (value, partials)."""

    name: str
    variables: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    function: Callable[..., Any]
    # Groups of parameters that may change places without changing the law; told in the order of their first ones.
    interchangeable: tuple[tuple[str, ...], ...] = ()
    # Variables of one unit, such as tokens and unique tokens, that are centred by the first one's mean.
    shared_scale: tuple[str, ...] = ()
    of: Quantity = "loss"

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters' names in their order."""
        return tuple(p.name for p in self.parameters)

    def value(self, variables: Values, parameters: Values) -> Array:
        """The law's value; parameters and variables broadcast."""
        given = self.function(**variables, **parameters)
        return np.asarray(given[0] if isinstance(given, tuple) else given)

    def value_and_gradient(self, variables: Values, parameters: Values) -> tuple[Array, Array]:
        """The value, and the partial derivatives by the parameters along a new last axis."""
        given = self.function(**variables, **parameters)
        if isinstance(given, tuple):
            value, partials = given
            return value, np.stack([np.broadcast_to(p, np.shape(value)) for p in partials], axis=-1)
        partials = [self._partial(variables, parameters, name) for name in self.names]
        return np.asarray(given), np.stack(partials, axis=-1)

    def over(self, variables: Sequence[str]) -> "Law":
        """The same law over variables of other names, in their order."""
        if tuple(variables) == self.variables:
            return self
        if taken := set(variables) & set(self.names):
            raise FitError(f"{min(taken)!r} is a parameter of the law {self.name}: give the variable another name")
        names = dict(zip(self.variables, variables, strict=True))

        def function(**given: Any) -> Any:
            return self.function(**{old: given.pop(new) for old, new in names.items()}, **given)

        function.__doc__ = self.function.__doc__
        moved = tuple(
            replace(p, carries={names.get(v, v): c for v, c in p.carries.items()}, within=names.get(p.within or ""))
            for p in self.parameters
        )
        shared = tuple(names[v] for v in self.shared_scale)
        return replace(self, variables=tuple(variables), parameters=moved, function=function, shared_scale=shared)

    def _partial(self, variables: Values, parameters: Values, name: str) -> Array:
        moved = {**parameters, name: np.asarray(parameters[name]) + 1j * STEP}
        return np.asarray(self.function(**variables, **moved).imag / STEP)


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
    """Registers a function as a law. `variables`: their names, space between. Raises FitError on a name taken."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        if name in LAWS and LAWS[name].function.__qualname__ != function.__qualname__:
            raise FitError(f"the law {name!r} is defined twice")
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
    """A registered law. Raises FitError that lists them."""
    if name not in LAWS:
        raise FitError(f"unknown law {name!r}; known: {', '.join(sorted(LAWS))}")
    return LAWS[name]
