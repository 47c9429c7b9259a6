"""Laws of the accuracy, the share of right answers: they rise from a floor (guessing) to a ceiling.

Floor and ceiling are shares from 0 to 1. Fit these laws under the objective `binomial`, which takes the number of
answers into account.
"""

import numpy as np
from scipy.special import expit

from analysis.laws.form import Array, Parameter, law, scale


def share_of_answers(name: str) -> Parameter:
    """A share of all answers, from 0 to 1."""
    return Parameter(name=name, kind="linear", low=0.0, high=1.0)


def steepness(name: str, **carries: str) -> Parameter:
    """How fast a logistic curve rises."""
    return Parameter(name=name, kind="log", low=1e-3, high=1e3, start=(0.2, 5.0), carries=carries)


def interpolate(floor: Array, ceiling: Array, share: Array) -> Array:
    """The value at this share of the way from floor to ceiling."""
    return np.asarray(floor * (1 - share) + ceiling * share)


@law(
    "logistic",
    variables="x",
    of="accuracy",
    parameters=[
        share_of_answers("floor"),
        share_of_answers("ceiling"),
        scale("x_0", (1e-2, 1e2), x="-1"),
        steepness("k"),
    ],
)
def logistic(x: Array, floor: Array, ceiling: Array, x_0: Array, k: Array) -> tuple[Array, list[Array]]:
    """floor + (ceiling − floor) / (1 + (x/x_0)^−k): logistic in ln x, half-way at x_0."""
    log_ratio = np.log(x) - np.log(x_0)
    share = expit(k * log_ratio)
    slope = (ceiling - floor) * share * (1 - share)
    return interpolate(floor, ceiling, share), [1 - share, share, -slope * k / x_0, slope * log_ratio]


@law(
    "saturating_exponential",
    variables="x",
    of="accuracy",
    parameters=[share_of_answers("floor"), share_of_answers("rise"), scale("tau", (1e-2, 1e2), x="-1")],
)
def saturating_exponential(x: Array, floor: Array, rise: Array, tau: Array) -> tuple[Array, list[Array]]:
    """floor + rise·(1 − e^(−x/tau)): all facts are learned at one rate (Yang et al. 2024, arXiv 2409.07431)."""
    rest = np.exp(-x / tau)
    return floor + rise * (1 - rest), [np.ones_like(rest), 1 - rest, -rise * rest * x / tau**2]


@law(
    "saturating_exponential_2",
    variables="x",
    of="accuracy",
    parameters=[
        share_of_answers("floor"),
        share_of_answers("rise_1"),
        scale("tau_1", (1e-2, 1e2), x="-1"),
        share_of_answers("rise_2"),
        scale("tau_2", (1e-2, 1e2), x="-1"),
    ],
    interchangeable=[("tau_1", "rise_1"), ("tau_2", "rise_2")],
)
def saturating_exponential_2(
    x: Array, floor: Array, rise_1: Array, tau_1: Array, rise_2: Array, tau_2: Array
) -> tuple[Array, list[Array]]:
    """floor + rise_1·(1 − e^(−x/tau_1)) + rise_2·(1 − e^(−x/tau_2)): easy and hard facts (Yang et al. 2024).

    The easy facts, with the smaller tau, come first.
    """
    fast, parts_1 = saturating_exponential(x, floor, rise_1, tau_1)
    slow, parts_2 = saturating_exponential(x, 0 * floor, rise_2, tau_2)
    return fast + slow, [*parts_1, *parts_2[1:]]


@law(
    "chained",
    variables="L",
    of="accuracy",
    parameters=[
        share_of_answers("floor"),
        share_of_answers("ceiling"),
        scale("L_0", (0.5, 2.0), L="-1"),
        steepness("k", L="1"),
    ],
)
def chained(L: Array, floor: Array, ceiling: Array, L_0: Array, k: Array) -> tuple[Array, list[Array]]:
    """floor + (ceiling − floor) / (1 + e^(k·(L − L_0))): accuracy from loss (Bhagia et al. 2024, arXiv 2412.04403).

    It is the second step of a chain; the first step is a law of the loss. `analysis.fits.chain` joins the two.
    """
    share = expit(-k * (L - L_0))
    slope = (ceiling - floor) * share * (1 - share)
    return interpolate(floor, ceiling, share), [1 - share, share, slope * k, -slope * (L - L_0)]
