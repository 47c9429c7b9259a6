"""Measures the fits themselves, law by law: do they give back what made the data, and are they as sure as they say?

For every law, points are made from known parameters, again and again with new noise (0.5 % of a loss; right answers of
200 tries of an accuracy). Told are the share of draws whose 90 % intervals hold the truth, the least and the most over
the parameters, how many starts reached the best minimum, and the error of the parameters without noise.

examples:
  python jobs/bench_fits.py
  python jobs/bench_fits.py --laws additive rectified --draws 50 --out fits.json
"""

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from analysis.errors import FitError
from analysis.fits import examples, uncertainty
from analysis.fits.fit import Fit, fit_points
from analysis.fits.problem import Points
from analysis.fits.table import check_out
from analysis.laws import form
from analysis.laws.form import Law

NOISE, TRIES = 0.005, 200
RESAMPLES = 200
APART = 1_000_003  # between the seeds of the points and of their resamples


@dataclass(frozen=True, kw_only=True, slots=True)
class Recovery:
    """How a law did over all draws."""

    law: str
    draws: int
    error_without_noise: float  # the largest relative one of a parameter
    held: dict[str, float]  # share of draws whose interval holds the parameter
    starts_at_optimum: float  # share, mean over the draws
    seconds_a_fit: float
    seconds_a_bootstrap: float


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--laws", nargs="+", metavar="NAME", default=list(examples.TRUE), help="default: all")
    parser.add_argument("--draws", type=int, default=200, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--out", metavar="FILE", help="write all numbers there as JSON")
    return parser.parse_args()


def measure(name: str, draws: int) -> Recovery:
    """All draws of one law."""
    law, truth = form.find(name), examples.TRUE[name]
    exact = fit_points(law, examples.losses(name), objective="mse:log", starts=64)
    fits, bounds, seconds = [], [], np.zeros(2)
    for seed in range(draws):
        began = time.perf_counter()
        fits.append(fit_points(law, made(law, seed), objective=objective(law)))
        fitted = time.perf_counter()
        bounds.append(uncertainty.intervals(fits[-1], uncertainty.bootstrap(fits[-1], RESAMPLES, APART + seed)))
        seconds += [fitted - began, time.perf_counter() - fitted]
    held = {
        parameter: float(np.mean([low <= value <= high for b in bounds for low, high in [b[parameter]["percentile"]]]))
        for parameter, value in truth.items()
    }
    return Recovery(
        law=name,
        draws=draws,
        error_without_noise=max(abs(exact.parameters[p] / value - 1) for p, value in truth.items()),
        held=held,
        starts_at_optimum=float(np.mean([reached(found) for found in fits])),
        seconds_a_fit=seconds[0] / draws,
        seconds_a_bootstrap=seconds[1] / draws,
    )


def made(law: Law, seed: int) -> Points:
    """One draw's points."""
    return examples.shares(law.name, TRIES, seed) if law.of == "accuracy" else examples.losses(law.name, NOISE, seed)


def objective(law: Law) -> str:
    """That which fits the noise."""
    return "binomial" if law.of == "accuracy" else "mse:log"


def reached(found: Fit) -> float:
    """The share of starts that reached the best minimum."""
    return found.starts_at_optimum / found.starts


def line(one: Recovery) -> str:
    """A law's row."""
    low, high = min(one.held.values()), max(one.held.values())
    return (
        f"{one.law:26} {one.error_without_noise:8.0e}   {low:4.0%} – {high:4.0%}   {one.starts_at_optimum:8.0%}"
        f" {1000 * one.seconds_a_fit:8.0f} {1000 * one.seconds_a_bootstrap:12.0f}"
    )


def main() -> int:
    args = arguments()
    try:
        check_out(args.out)
        for name in args.laws:
            form.find(name)
    except FitError as error:
        print(error, file=sys.stderr)
        return 2
    print("law                        no noise   90 % hold   at optimum   ms a fit   ms a bootstrap")
    found = []
    for name in args.laws:
        found.append(measure(name, args.draws))
        print(line(found[-1]), flush=True)
    if args.out:
        Path(args.out).write_text(json.dumps([asdict(one) for one in found], indent=1))
        print(f"Written: {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
