"""Accuracy of a model that was never trained, through its loss: a law of the loss, then the law `chained`."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from analysis.fits.fit import Fit
from analysis.fits.uncertainty import LEVEL, percentile_interval, predict_resamples

Array = NDArray[np.float64]


def predict(loss: Fit, accuracy: Fit, variables: Mapping[str, Array]) -> Array:
    """Accuracies [m] at the variables of the law of the loss. `accuracy`: a fit over one variable, the loss."""
    (name,) = accuracy.law.variables
    return accuracy.predict({name: loss.predict(variables)})


def predict_interval(
    loss: Fit, loss_resamples: Array, accuracy: Fit, accuracy_resamples: Array, variables: Mapping[str, Array]
) -> tuple[Array, Array]:
    """Bounds [m] of the central 90 % of the chain, from as many resamples of each step as both have."""
    (name,) = accuracy.law.variables
    n = min(len(loss_resamples), len(accuracy_resamples))
    losses = predict_resamples(loss, loss_resamples[:n], variables)
    clouds = np.array(
        [
            predict_resamples(accuracy, one[None], {name: row})[0]
            for one, row in zip(accuracy_resamples[:n], losses, strict=True)
        ]
    )
    low, high = zip(*(percentile_interval(column, LEVEL) for column in clouds.T), strict=True)
    return np.array(low), np.array(high)
