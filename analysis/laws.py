"""Scaling laws: forms, parameters and gradients, under the field's names and symbols.

A law is one function of its variables and parameters; it gives its value, or its value and its partial derivatives.
A law of your own:

    from analysis.laws import amplitude, exponent, law, offset

    @law("mine", variables="x", parameters=[amplitude("b", x="c"), exponent("c", -4, 0), offset("e")])
    def mine(x, b, c, e):
        "b·x^c + e"
        return b * x**c + e

Everything broadcasts. Without partial derivatives they are taken by a complex step, which is exact to rounding if the
function is analytic (no abs, no maximum on its parameters).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Array = NDArray[Any]
Values = Mapping[str, Array]
Kind = Literal["linear", "free", "log"]

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
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers a function as a law. `variables`: their names, space between. Raises ValueError on a name taken."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        if name in LAWS and LAWS[name].function.__qualname__ != function.__qualname__:
            raise ValueError(f"the law {name!r} is defined twice")
        names = tuple(variables.split())
        LAWS[name] = Law(
            name=name,
            variables=names,
            parameters=tuple(parameters),
            function=function,
            interchangeable=tuple(interchangeable),
        )
        return function

    return register


def find(name: str) -> Law:
    """A registered law. Raises ValueError that lists them."""
    if name not in LAWS:
        raise ValueError(f"unknown law {name!r}; known: {', '.join(LAWS)}")
    return LAWS[name]


# ---- one variable ----------------------------------------------------------------------------------------------------


@law("power", variables="x", parameters=[amplitude("b", x="c"), exponent("c", -4.0, 4.0, (-1.0, 1.0))])
def power(x: Array, b: Array, c: Array) -> tuple[Array, list[Array]]:
    """b·x^c (Hestness et al. 2017, arXiv 1712.00409; M1 of Alabdulmohsin et al. 2022, arXiv 2209.06640)."""
    p = x**c
    return b * p, [p, b * p * np.log(x)]


@law(
    "power_offset",
    variables="x",
    parameters=[amplitude("b", x="c"), exponent("c", -4.0, 0.0, (-1.0, -0.05)), offset("e")],
)
def power_offset(x: Array, b: Array, c: Array, e: Array) -> tuple[Array, list[Array]]:
    """b·x^c + e, falling to e (M2 of Alabdulmohsin et al. 2022)."""
    p = x**c
    return b * p + e, [p, b * p * np.log(x), np.ones_like(p)]


@law(
    "shifted_power",
    variables="x",
    parameters=[amplitude("b", x="-c"), scale("g", (1e-3, 1e1), x="1"), exponent("c", 0.0, 8.0, (0.05, 2.0))],
)
def shifted_power(x: Array, b: Array, g: Array, c: Array) -> tuple[Array, list[Array]]:
    """b·(1/x + g)^c (M3 of Alabdulmohsin et al. 2022)."""
    inner = 1 / x + g
    p = inner**c
    return b * p, [p, b * c * p / inner, b * p * np.log(inner)]


@law(
    "m4",
    variables="x",
    parameters=[
        offset("e_inf"),
        scale("e_0", (1.5, 30.0), y="-1"),
        scale("beta", (1e-2, 1e1), x="c", y="alpha-1"),
        exponent("c", -4.0, 0.0, (-1.0, -0.05)),
        exponent("alpha", 0.0, 4.0, (0.0, 1.0)),
    ],
)
def m4(x: Array, e_inf: Array, e_0: Array, beta: Array, c: Array, alpha: Array) -> tuple[Array, list[Array]]:
    """The y between e_inf and e_0 with (y − e_inf) / (e_0 − y)^alpha = beta·x^c (Alabdulmohsin et al. 2022).

    Solved by Newton's method for t, y = e_inf + (e_0 − e_inf)·s(t), s the logistic function.
    """
    width = np.maximum(e_0 - e_inf, 1e-12)
    k = np.log(beta) + c * np.log(x) - (1 - alpha) * np.log(width)
    t = np.where(k < 0, k, k / np.maximum(alpha, 0.05))
    for _ in range(60):
        slope = expit(-t) + alpha * expit(t)
        step = np.clip((-np.logaddexp(0, -t) + alpha * np.logaddexp(0, t) - k) / slope, -5, 5)
        t = t - step
        if not (np.abs(step) > 1e-13 * (1 + np.abs(t))).any():
            break
    s = expit(t)
    per_k = width * s * (1 - s) / (expit(-t) + alpha * expit(t))
    k_by_width = -(1 - alpha) / width
    partials = [
        1 - s - per_k * k_by_width,
        s + per_k * k_by_width,
        per_k / beta,
        per_k * np.log(x),
        per_k * (np.log(width) - np.logaddexp(0, t)),
    ]
    return e_inf + width * s, partials


def broken(n_breaks: int) -> list[Parameter]:
    """The parameters of a broken law."""
    bends = [
        [
            exponent(f"c_{i}", -4.0, 4.0, (-0.5, 1.0)),
            Parameter(
                name=f"d_{i}", kind="log", low=1e-9, high=1e9, start=(1e-2, 1e2), carries={"x": "-1"}, within="x"
            ),
            Parameter(name=f"f_{i}", kind="log", low=5e-2, high=1e1, start=(0.1, 1.0)),
        ]
        for i in range(1, n_breaks + 1)
    ]
    level = [offset("a"), amplitude("b", x="-c_0"), exponent("c_0", -1.0, 4.0, (0.0, 1.0))]
    return [*level, *chain.from_iterable(bends)]


def bnsl(x: Array, a: Array, b: Array, c_0: Array, **bends: Array) -> tuple[Array, list[Array]]:
    """a + b·x^−c_0·Π (1 + (x/d_i)^(1/f_i))^(−c_i·f_i) (broken neural scaling law, Caballero et al. 2023, 2210.14891).

    The breaks are told in the order of their places d_i.
    """
    log_x, n = np.log(x), len(bends) // 3
    log_p = -c_0 * log_x
    partials = []
    for i in range(1, n + 1):
        c, d, f = (bends[f"{name}_{i}"] for name in "cdf")
        z = (log_x - np.log(d)) / f
        soft, share = np.logaddexp(0, z), expit(z)
        log_p = log_p - c * f * soft
        partials += [-f * soft, c * share / d, c * (share * z - soft)]
    p = np.exp(np.clip(log_p, -700, 700))
    return a + b * p, [np.ones_like(p), p, -b * p * log_x, *(b * p * partial for partial in partials)]


law("bnsl_1", variables="x", parameters=broken(1))(bnsl)
law("bnsl_2", variables="x", parameters=broken(2), interchangeable=[("d_1", "c_1", "f_1"), ("d_2", "c_2", "f_2")])(bnsl)


@law(
    "rectified",
    variables="D",
    parameters=[
        amplitude("B", D="-beta"),
        scale("D_l", (1e-3, 1e2), D="-beta"),
        exponent("beta", 0.0, 4.0, (0.1, 1.2)),
        offset("E"),
    ],
)
def rectified(D: Array, B: Array, D_l: Array, beta: Array, E: Array) -> tuple[Array, list[Array]]:
    """B / (D_l + D^beta) + E: fine-tuning, D_l the data that pretraining was worth (Lin et al. 2024, 2402.02314)."""
    p = D**beta
    share = 1 / (D_l + p)
    return B * share + E, [share, -B * share**2, -B * share**2 * p * np.log(D), np.ones_like(p)]


# ---- two variables ---------------------------------------------------------------------------------------------------


@law(
    "additive",
    variables="N D",
    parameters=[
        offset("E"),
        amplitude("A", N="-alpha"),
        amplitude("B", D="-beta"),
        exponent("alpha"),
        exponent("beta"),
    ],
)
def additive(N: Array, D: Array, E: Array, A: Array, B: Array, alpha: Array, beta: Array) -> tuple[Array, list[Array]]:
    """E + A·N^−alpha + B·D^−beta (Hoffmann et al. 2022, arXiv 2203.15556, approach 3)."""
    a, b = N**-alpha, D**-beta
    return E + A * a + B * b, [np.ones_like(a * b), a + 0 * b, b + 0 * a, -A * a * np.log(N), -B * b * np.log(D)]


@law(
    "multiplicative",
    variables="X D",
    parameters=[
        offset("E"),
        amplitude("A", X="-alpha", D="-beta"),
        exponent("alpha", -1.0, 4.0),
        exponent("beta", -1.0, 4.0),
    ],
)
def multiplicative(X: Array, D: Array, E: Array, A: Array, alpha: Array, beta: Array) -> tuple[Array, list[Array]]:
    """E + A·X^−alpha·D^−beta: fine-tuning over size (or another X) and data (Zhang et al. 2024, arXiv 2402.17193)."""
    p = X**-alpha * D**-beta
    return E + A * p, [np.ones_like(p), p, -A * p * np.log(X), -A * p * np.log(D)]
