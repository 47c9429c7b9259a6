"""Accuracy of a model that was never trained, through its loss: a law of the loss, then `chained`."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from analysis.fits.fit import Fit
from analysis.fits.uncertainty import LEVEL, fitted_values, percentile

Array = NDArray[np.float64]


def predict(loss: Fit, accuracy: Fit, variables: Mapping[str, Array]) -> Array:
    """Accuracies [m] at the variables of the loss's law. `accuracy` is a fit over one variable, the loss."""
    (name,) = accuracy.law.variables
    return accuracy.predict({name: loss.predict(variables)})


def interval(
    loss: Fit, loss_draws: Array, accuracy: Fit, accuracy_draws: Array, variables: Mapping[str, Array]
) -> tuple[Array, Array]:
    """Bounds [m] of the central 90 % of the chain, from as many bootstrap draws of each step as both have."""
    (name,) = accuracy.law.variables
    n = min(len(loss_draws), len(accuracy_draws))
    losses = fitted_values(loss, loss_draws[:n], variables)
    clouds = np.array(
        [
            fitted_values(accuracy, draw[None], {name: row})[0]
            for draw, row in zip(accuracy_draws[:n], losses, strict=True)
        ]
    )
    low, high = zip(*(percentile(column, LEVEL) for column in clouds.T), strict=True)
    return np.array(low), np.array(high)
