"""What a fit minimises, by name: `huber:1e-3:log`, `lad:log`, `mse:log`, `huber:0.1:raw`, `lad:raw`, `mse:raw`."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.solver import huber

Array = NDArray[np.float64]

LAD_DELTA = 1e-10  # within it the absolute value is rounded off, so that it has a slope everywhere


@dataclass(frozen=True, kw_only=True, slots=True)
class Objective:
    """A loss of the residuals of y, or of ln y if `log`. `delta` is Huber's; inf: squares."""

    name: str
    loss: str
    delta: float
    log: bool

    def residuals(self, value: Array, gradient: Array, y: Array) -> tuple[Array, Array]:
        """Residuals and their derivatives from a law's value [s, n] and gradient [s, n, p]."""
        if not self.log:
            return value - y, gradient
        positive = np.maximum(value, 1e-300)
        return np.log(positive) - np.log(y), gradient / positive[..., None]

    def total(self, residuals: Array, weights: Array) -> float:
        """The objective that is reported: Σ w·huber(r), Σ w·|r| or Σ w·r²."""
        if self.loss == "lad":
            return float((weights * np.abs(residuals)).sum())
        if self.loss == "mse":
            return float((weights * residuals**2).sum())
        return float((weights * huber(residuals, self.delta)).sum())


def parse(name: str) -> Objective:
    """An objective by its name. Raises ValueError that shows the form of a name."""
    loss, *rest = name.split(":")
    known = {"huber": 2, "lad": 1, "mse": 1}
    if known.get(loss) != len(rest) or rest[-1] not in ("log", "raw"):
        raise ValueError(f"unknown objective {name!r}; use huber:DELTA:log, lad:log or mse:log, or raw in place of log")
    try:
        delta = {"lad": LAD_DELTA, "mse": float("inf")}[loss] if loss != "huber" else float(rest[0])
    except ValueError:
        delta = 0.0
    if not delta > 0:
        raise ValueError(f"objective {name!r}: {rest[0]!r} is no number above 0, such as 1e-3")
    return Objective(name=name, loss=loss, delta=delta, log=rest[-1] == "log")
