"""Measures the fits, law by law: do they recover the true parameters, and are their intervals right?

For every law, points are made from known parameters, many times with new noise (0.5 % of a loss; right answers of 200
tries of an accuracy). The output shows how many of the 90 % intervals contain the truth (the lowest and the highest
share over the parameters), how many starts reached the best minimum, and the error of the parameters without noise.
"""

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from analysis.errors import FitError
from analysis.fits import examples, uncertainty
from analysis.fits.fit import Fit, fit_points
from analysis.fits.problem import Points
from analysis.laws import form
from analysis.laws.form import Law

NOISE, TRIES = 0.005, 200
RESAMPLES = 200
SEED_STEP = 1_000_003  # between the seeds of the points and of their resamples


@dataclass(frozen=True, kw_only=True, slots=True)
class Recovery:
    """The results of one law over all draws of noise."""

    law: str
    draws: int
    error_without_noise: float  # the largest relative one of a parameter
    coverage: dict[str, float]  # share of draws whose interval contains the parameter
    starts_at_optimum: float  # share, mean over the draws
    seconds_per_fit: float
    seconds_per_bootstrap: float


def add(parser: argparse.ArgumentParser) -> None:
    """The benchmark's arguments."""
    parser.add_argument("--laws", nargs="+", metavar="NAME", default=list(examples.TRUTH), help="default: all")
    parser.add_argument("--draws", type=int, default=200, metavar="N", help="of noise (default: %(default)s)")
    parser.set_defaults(run=run)


def measure(name: str, draws: int) -> Recovery:
    """Measures one law over all draws of noise."""
    law, truth = form.find(name), examples.TRUTH[name]
    exact = fit_points(law, examples.make_losses(name), objective="mse:log", starts=64)
    fits, bounds, seconds = [], [], np.zeros(2)
    for seed in range(draws):
        began = time.perf_counter()
        fits.append(fit_points(law, make_points(law, seed), objective=choose_objective(law)))
        middle = time.perf_counter()
        bounds.append(uncertainty.intervals(fits[-1], uncertainty.bootstrap(fits[-1], RESAMPLES, SEED_STEP + seed)))
        seconds += [middle - began, time.perf_counter() - middle]
    coverage = {
        parameter: float(np.mean([low <= value <= high for b in bounds for low, high in [b[parameter]["percentile"]]]))
        for parameter, value in truth.items()
    }
    return Recovery(
        law=name,
        draws=draws,
        error_without_noise=max(abs(exact.parameters[p] / value - 1) for p, value in truth.items()),
        coverage=coverage,
        starts_at_optimum=float(np.mean([share_at_optimum(fit) for fit in fits])),
        seconds_per_fit=seconds[0] / draws,
        seconds_per_bootstrap=seconds[1] / draws,
    )


def make_points(law: Law, seed: int) -> Points:
    """The points of one draw of noise."""
    if law.of == "accuracy":
        return examples.make_shares(law.name, TRIES, seed)
    return examples.make_losses(law.name, NOISE, seed)


def choose_objective(law: Law) -> str:
    """The objective that matches the noise."""
    return "binomial" if law.of == "accuracy" else "mse:log"


def share_at_optimum(fit: Fit) -> float:
    """The share of starts that reached the best minimum."""
    return fit.starts_at_optimum / fit.starts


def write_line(one: Recovery) -> str:
    """One row per law."""
    low, high = min(one.coverage.values()), max(one.coverage.values())
    return (
        f"{one.law:26} {one.error_without_noise:8.0e}   {low:4.0%} – {high:4.0%}   {one.starts_at_optimum:8.0%}"
        f" {1000 * one.seconds_per_fit:8.0f} {1000 * one.seconds_per_bootstrap:14.0f}"
    )


def run(args: argparse.Namespace) -> int:
    """Measures, prints, writes. Raises FitError on unknown laws, and on no draws at all."""
    if args.draws < 1:
        raise FitError(f"--draws {args.draws}: at least 1")
    for name in args.laws:
        form.find(name)
    print("law                        no noise    coverage   at optimum ms per fit ms per bootstrap")
    results = []
    for name in args.laws:
        results.append(measure(name, args.draws))
        print(write_line(results[-1]), flush=True)
    if args.out:
        Path(args.out).write_text(json.dumps([asdict(one) for one in results], indent=1))
        print(f"Written: {args.out}")
    return 0
