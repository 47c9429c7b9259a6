"""What a fit minimises, by name: `huber:1e-3:log`, `lad:log`, `mse:log`, or `raw` in place of `log`; `binomial`."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import rel_entr

from analysis.errors import FitError
from analysis.fits.solver import huber

Array = NDArray[np.float64]

LAD_DELTA = 1e-10  # within it the absolute value is rounded off, so that it has a slope everywhere
SHARES = (1e-9, 1 - 1e-9)  # bounds of a law's value as a probability
CLOSE = 1e-4  # difference of probabilities below which rounding spoils a deviance


@dataclass(frozen=True, kw_only=True, slots=True)
class Objective:
    """A loss of the residuals of y, of ln y if `log`, or of shares if `binomial`. `delta` is Huber's; inf: squares."""

    name: str
    loss: str
    delta: float
    log: bool

    @property
    def binomial(self) -> bool:
        """Whether y is a share of tries; the weight of a point is their number."""
        return self.loss == "binomial"

    def residuals(self, value: Array, gradient: Array, y: Array) -> tuple[Array, Array]:
        """Residuals and their derivatives, from the value [s, n] and the gradient [s, n, p] of a law."""
        if self.binomial:
            return deviance_residuals(value, gradient, y)
        if not self.log:
            return value - y, gradient
        positive = np.maximum(value, 1e-300)
        return np.log(positive) - np.log(y), gradient / positive[..., None]

    def total(self, residuals: Array, weights: Array) -> float:
        """The value in a fit's record: Σ w·huber(r), Σ w·|r|, Σ w·r²; binomial: Σ n·KL(y ‖ ŷ) in nats."""
        if self.loss == "lad":
            return float((weights * np.abs(residuals)).sum())
        if self.loss == "mse":
            return float((weights * residuals**2).sum())
        return float((weights * huber(residuals, self.delta)).sum())


def deviance_residuals(value: Array, gradient: Array, y: Array) -> tuple[Array, Array]:
    """Signed roots of 2·KL(y ‖ p), and their derivatives.

    Half of their squares, times the tries, is the loss of the binomial likelihood in nats. So a binomial fit is a fit
    of least squares (McCullagh and Nelder 1989, section 2.4.3).
    """
    p = np.clip(value, *SHARES)
    deviation, variance = p - y, p * (1 - p)
    divergence = 2 * (rel_entr(y, p) + rel_entr(1 - y, 1 - p))
    near = np.abs(deviation) < CLOSE * variance
    bend = deviation * (1 - 2 * p) / (6 * variance)
    far = np.sign(deviation) * np.sqrt(np.maximum(divergence, 0))
    r = np.where(near, deviation / np.sqrt(variance) * (1 + bend), far)
    slope = np.where(near, (1 - bend) / np.sqrt(variance), deviation / variance / np.where(near, 1.0, r))
    return r, gradient * slope[..., None]


def parse(name: str) -> Objective:
    """Reads the name of an objective. Raises FitError that shows what a name looks like."""
    if name == "binomial":
        return Objective(name=name, loss=name, delta=float("inf"), log=False)
    loss, *rest = name.split(":")
    n_parts = {"huber": 2, "lad": 1, "mse": 1}
    if n_parts.get(loss) != len(rest) or rest[-1] not in ("log", "raw"):
        raise FitError(
            f"unknown objective {name!r}; use huber:DELTA:log, lad:log, mse:log, raw in place of log, or binomial"
        )
    delta = {"lad": LAD_DELTA, "mse": float("inf")}.get(loss) or parse_delta(rest[0])
    if not delta > 0:
        raise FitError(f"objective {name!r}: {rest[0]!r} is no number above 0, such as 1e-3")
    return Objective(name=name, loss=loss, delta=delta, log=rest[-1] == "log")


def parse_delta(text: str) -> float:
    """A number; 0 for any other text."""
    try:
        return float(text)
    except ValueError:
        return 0.0
