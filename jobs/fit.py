"""Fits scaling laws to a table.

examples:
  python jobs/fit.py runs.csv --law additive --x N=params --x D=tokens --y loss --bootstrap 1000 --out fit.json
  python jobs/fit.py curves.parquet --law auto --x x=examples --y loss --group task,model --split train --out fit.json
  python jobs/fit.py runs.csv --law rectified --x D=tokens --y loss --where "size > 1e9" --out fit.json
  python jobs/fit.py trials.csv --law logistic --x x=flops --y accuracy --objective binomial --weights questions \
      --out fit.json
  python jobs/fit.py runs.csv --law additive --x N=params --x D=tokens --y loss --predict large.csv \
      --suggest 3 --candidates affordable.csv --cost flops --out fit.json
  python jobs/fit.py runs.csv --law additive --x N=params --x D=tokens --y loss --bootstrap 1000 \
      --allocate 1e21 1e22 --out fit.json
  python jobs/fit.py runs.csv --law additive --x N=params --x D=tokens --y loss --bootstrap 500 --isoflop --out fit.json
  python jobs/fit.py runs.csv --law additive --x N=params --x D=tokens --y loss --bootstrap 1000 --predict large.csv \
      --chain accuracy questions --out fit.json
"""

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from analysis.errors import FitError
from analysis.fits import group, table
from analysis.fits.objectives import parse
from analysis.fits.request import Chain, Request, Suggest
from analysis.laws import form


def arguments() -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    known = "\n".join(f"  {law.name}({', '.join(law.variables)}): {first_line(law)}" for law in form.LAWS.values())
    parser = argparse.ArgumentParser(description=__doc__, epilog=f"laws:\n{known}", formatter_class=raw)
    parser.add_argument("table", help="CSV or Parquet")
    parser.add_argument("--law", required=True, metavar="NAME[,NAME]", help="laws, or auto: the best predictor of all")
    parser.add_argument("--x", required=True, action="append", metavar="VAR=COLUMN", help="a variable of the law")
    parser.add_argument("--y", required=True, metavar="COLUMN")
    parser.add_argument(
        "--objective", default="huber:1e-3:log", help="also lad:log, mse:log, …:raw, binomial (default: %(default)s)"
    )
    parser.add_argument(
        "--weights", metavar="COLUMN", help="a point's share; binomial: of how many tries y is the share"
    )
    parser.add_argument("--errors", metavar="COLUMN", help="known standard errors of y, in its units")
    parser.add_argument("--group", default="", metavar="COLUMN[,COLUMN]", help="one fit a group")
    parser.add_argument("--split", metavar="COLUMN", help="1: fit, 0: held out")
    parser.add_argument("--where", metavar="SQL", help='only these rows, such as "size > 1e9"')
    parser.add_argument("--bootstrap", type=int, default=0, metavar="N", help="resamples for intervals (default: none)")
    parser.add_argument("--cluster", metavar="COLUMN", help="resample these together, such as news items")
    parser.add_argument("--predict", metavar="FILE", help="table of points to predict, in columns as --x names them")
    parser.add_argument("--suggest", type=int, metavar="K", help="which K candidates would tell most about --predict")
    parser.add_argument("--candidates", metavar="FILE", help="table of trials that could be run, for --suggest")
    parser.add_argument("--cost", metavar="COLUMN", help="of the candidates (default: all cost alike)")
    parser.add_argument(
        "--allocate",
        nargs="+",
        type=float,
        default=[],
        metavar="FLOPS",
        help="the best N and D for each amount of training compute 6·N·D; needs --law additive",
    )
    parser.add_argument(
        "--isoflop",
        action="store_true",
        help="the power of compute that the best N follows, from a parabola per group of runs of one compute 6·N·D, "
        "and how wrong such parabolas are; needs --law additive",
    )
    parser.add_argument(
        "--chain",
        nargs=2,
        metavar=("ACCURACY", "TRIES"),
        help="columns of an accuracy and of its number of tries: also fits accuracy to loss (the law chained), and "
        "predicts the accuracy of --predict through the loss; needs a law of loss",
    )
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--jobs", type=int, default=1, metavar="J", help="groups at a time (default: %(default)s)")
    parser.add_argument("--out", required=True, metavar="FILE", help="JSON")
    return parser.parse_args()


def first_line(law: form.Law) -> str:
    return (law.function.__doc__ or "").strip().splitlines()[0]


def request(args: argparse.Namespace) -> Request:
    """The arguments, checked before the table is read. Raises FitError that names what is wrong."""
    pairs = [item.partition("=") for item in args.x]
    if bad := [item for item, (_, equals, column) in zip(args.x, pairs, strict=True) if not equals or not column]:
        raise FitError(f"--x {bad[0]!r}: write VARIABLE=COLUMN, such as N=params")
    if len({variable for variable, _, _ in pairs}) < len(pairs):
        raise FitError(f"--x names a variable twice: {', '.join(args.x)}")
    if args.bootstrap < 0:
        raise FitError(f"--bootstrap {args.bootstrap}: at least 0")
    names = tuple(args.law.split(","))
    parse(args.objective)
    for name in names if names != ("auto",) else ():
        missing = set(form.find(name).variables) - {variable for variable, _, _ in pairs}
        if missing:
            raise FitError(f"--law {name} needs --x {min(missing)}=COLUMN")
    if bool(args.suggest) != bool(args.candidates):
        raise FitError("--suggest K and --candidates FILE go together")
    check_compute(args)
    check_chain(args, names)
    return Request(
        laws=names,
        x={variable: column for variable, _, column in pairs},
        y=args.y,
        objective=args.objective,
        weights=args.weights,
        errors=args.errors,
        group=tuple(filter(None, args.group.split(","))),
        split=args.split,
        cluster=args.cluster,
        bootstrap=args.bootstrap,
        seed=args.seed,
        predict=table.read(args.predict) if args.predict else None,
        suggest=suggest(args) if args.suggest else None,
        allocate=tuple(args.allocate),
        isoflop=args.isoflop,
        chain=Chain(accuracy=args.chain[0], tries=args.chain[1]) if args.chain else None,
    )


def check_compute(args: argparse.Namespace) -> None:
    """Raises FitError on compute that is not above 0, and on a law without a best N and D."""
    if bad := [c for c in args.allocate if not 0 < c < math.inf]:
        raise FitError(f"--allocate {bad[0]:g}: give FLOPs above 0, such as 1e21")
    for option in [name for name in ("allocate", "isoflop") if getattr(args, name)]:
        if args.law != "additive":
            raise FitError(f"--{option} needs --law additive, not {args.law!r}: only that law has a best N and D")


def check_chain(args: argparse.Namespace, names: Sequence[str]) -> None:
    """Raises FitError on a first step that is no law of loss, and on a chain without points to predict."""
    if args.chain and not args.predict:
        raise FitError(f"--chain {' '.join(args.chain)} needs --predict FILE: the points to predict the accuracy of")
    if args.chain and (bad := [name for name in names if name == "auto" or form.find(name).of != "loss"]):
        raise FitError(f"--chain needs a law of loss, such as --law additive, not {bad[0]!r}")


def suggest(args: argparse.Namespace) -> Suggest:
    return Suggest(k=args.suggest, candidates=table.read(args.candidates), cost=args.cost)


def fit_all(parts: Sequence[tuple[dict[str, Any], Any]], asked: Request, jobs: int) -> list[dict[str, Any]]:
    """All groups' records in their order, with a line of progress."""
    keys, tables = zip(*parts, strict=True)
    n = len(parts)
    # Spawned, not forked: Polars' threads do not survive a fork, and a group would wait for them without end.
    with ProcessPoolExecutor(max(1, min(jobs, n, os.cpu_count() or 1)), mp_context=get_context("spawn")) as pool:
        run = map if jobs == 1 else pool.map
        found: list[dict[str, Any]] = []
        for done, records in enumerate(run(group.fit_group, keys, tables, [asked] * n), 1):
            found += records
            if sys.stderr.isatty():
                print(f"\r\033[K{done} groups done, {n - done} left", end="" if done < n else "\n", file=sys.stderr)
    return found


def lines(record: dict[str, Any]) -> list[str]:
    """A fit for the terminal."""
    where = " ".join(f"{k}={v}" for k, v in record["group"].items())
    told = " ".join(f"{k}={v:.4g}" for k, v in record["parameters"].items())
    errors = {"log RMSE": record["log_rmse_fit"], "held out": record["log_rmse_heldout"]}
    shown = ", ".join(f"{name} {error:.3g}" for name, error in errors.items() if error is not None)
    found = [f"{where} {record['law']}: {told} | {shown}".strip()]
    found += [f"  {text}" for text in (*([record["choice"]] if "choice" in record else []), *record["warnings"])]
    found += [f"  predicted: {row}" for row in map(rounded, record.get("predictions", []))]
    found += [f"  run next: {suggested(s)}" for s in record.get("suggestions", [])]
    found += [f"  best for {allocated(a)}" for a in record.get("allocations", [])]
    found += isoflop_lines(record["isoflop"]) if "isoflop" in record else []
    return found + (chain_lines(record["chain"]) if "chain" in record else [])


def rounded(row: dict[str, float]) -> str:
    return " ".join(f"{name}={value:.4g}" for name, value in row.items() if value is not None)


def suggested(one: dict[str, Any]) -> str:
    trial = " ".join(f"{name}={value}" for name, value in one["candidate"].items())
    return f"{trial}: width of the 90 % interval {one['width_before']:.3g} → {one['width_after']:.3g}"


def allocated(one: dict[str, Any]) -> str:
    n, d = (f"{key}={one[key]:.4g}{bounds(one[f'interval_{key}'])}" for key in "ND")
    return f"{one['flops']:g} FLOPs: {n} {d} y={one['loss']:.4g}"


def isoflop_lines(one: dict[str, Any]) -> list[str]:
    profiles = [f"  IsoFLOP: lowest loss of {p['flops']:.3g} FLOPs at N={p['N']:.4g}" for p in one["profiles"]]
    power = f"  IsoFLOP: N grows as compute to the power {one['exponent_N']:.3f}{bounds(one['interval_N'])}"
    return [*profiles, power, *(f"  {text}" for text in one["warnings"])]


def chain_lines(one: dict[str, Any]) -> list[str]:
    step = f"  accuracy from loss, {one['step']['law']}: {rounded(one['step']['parameters'])}"
    predictions = [f"  predicted accuracy: {rounded(row)}" for row in one["predictions"]]
    return [step, *(f"    {text}" for text in one["step"]["warnings"]), *predictions]


def bounds(interval: Sequence[float] | None) -> str:
    return f" [{interval[0]:.4g}, {interval[1]:.4g}]" if interval else ""


def main() -> int:
    args = arguments()
    try:
        asked = request(args)
        table.check_out(args.out)
        began = time.monotonic()
        fits = fit_all(table.parts(table.read(args.table, args.where), asked), asked, args.jobs)
    except FitError as error:
        print(error, file=sys.stderr)
        return 2
    Path(args.out).write_text(
        json.dumps({"seconds": time.monotonic() - began, "fits": fits}, indent=1, default=str, allow_nan=False)
    )
    for record in fits:
        print(*lines(record), sep="\n")
    print(f"Written: {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
