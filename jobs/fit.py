r"""Fits scaling laws to a table.

examples:
  python jobs/fit.py runs.csv --law additive --x N=params --x D=tokens --y loss --bootstrap 1000 --out fit.json
  python jobs/fit.py curves.parquet --law auto --x x=examples --y loss --group task,model --split train --out fit.json
  python jobs/fit.py runs.csv --law rectified --x D=tokens --y loss --where "size > 1e9" --out fit.json
  python jobs/fit.py trials.csv --law logistic --x x=flops --y accuracy --objective binomial --weights questions \
      --out fit.json

what a fit is used for (each needs the options of a fit as above):
  python jobs/fit.py runs.csv --law additive --x N=params --x D=tokens --y loss --out fit.json --predict large.csv \
      --suggest 3 --candidates affordable.csv --cost flops
  python jobs/fit.py runs.csv --law additive --x N=params --x D=tokens --y loss --out fit.json --bootstrap 1000 \
      --allocate 1e21 1e22
  python jobs/fit.py runs.csv --law additive --x N=params --x D=tokens --y loss --out fit.json --bootstrap 500 --isoflop
  python jobs/fit.py runs.csv --law additive --x N=params --x D=tokens --y loss --out fit.json --bootstrap 1000 \
      --predict large.csv --chain accuracy questions
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

from cli import check_out, exit_status

from analysis.errors import FitError
from analysis.fits import group, table
from analysis.fits.lines import write_lines
from analysis.fits.objectives import parse
from analysis.fits.request import Chain, Request, Suggest
from analysis.laws.form import LAWS, Law, find


def parse_arguments() -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    laws = "\n".join(f"  {law.name}({', '.join(law.variables)}): {first_line(law)}" for law in LAWS.values())
    parser = argparse.ArgumentParser(description=__doc__, epilog=f"laws:\n{laws}", formatter_class=raw)
    add_fit_options(parser)
    add_row_options(parser)
    add_use_options(parser.add_argument_group("what the fit is used for"))
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--jobs", type=int, default=1, metavar="J", help="groups at a time (default: %(default)s)")
    parser.add_argument("--out", required=True, metavar="FILE", help="JSON")
    return parser.parse_args()


def first_line(law: Law) -> str:
    return (law.function.__doc__ or "").strip().splitlines()[0]


def add_fit_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("table", help="CSV or Parquet")
    add("--law", required=True, metavar="NAME[,NAME]", help="laws, or auto: the law that predicts best")
    add("--x", required=True, action="append", metavar="VAR=COLUMN", help="a variable of the law")
    add("--y", required=True, metavar="COLUMN")
    add("--objective", default="huber:1e-3:log", help="also lad:log, mse:log, …:raw, binomial (default: %(default)s)")
    add("--weights", metavar="COLUMN", help="weight of a point; binomial: number of tries of which y is the share")
    add("--errors", metavar="COLUMN", help="known standard errors of y, in its units")
    add("--bootstrap", type=int, default=0, metavar="N", help="resamples for intervals (default: none)")
    add("--cluster", metavar="COLUMN", help="resample the rows of one value together, such as those of a news item")


def add_row_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--group", default="", metavar="COLUMN[,COLUMN]", help="one fit per group")
    add("--split", metavar="COLUMN", help="1: fit, 0: held out")
    add("--where", metavar="SQL", help='only these rows, such as "size > 1e9"')


def add_use_options(parser: argparse._ArgumentGroup) -> None:
    add = parser.add_argument
    add("--predict", metavar="FILE", help="table of points to predict, with the columns that --x names")
    add("--suggest", type=int, metavar="K", help="the K candidates that shrink the intervals of --predict most")
    add("--candidates", metavar="FILE", help="table of trials that could be run, for --suggest")
    add("--cost", metavar="COLUMN", help="cost of the candidates (default: all cost the same)")
    add(
        "--allocate",
        nargs="+",
        type=float,
        default=[],
        metavar="FLOPS",
        help="the best N and D for each amount of training compute 6·N·D; needs --law additive",
    )
    add(
        "--isoflop",
        action="store_true",
        help="the power of compute that the best N follows, by one parabola per compute 6·N·D, and the error of these "
        "parabolas; needs --law additive",
    )
    add(
        "--chain",
        nargs=2,
        metavar=("ACCURACY", "TRIES"),
        help="columns of an accuracy and of its number of tries: also fits accuracy to loss (the law chained), and "
        "predicts the accuracy of --predict through the loss; needs a law of loss",
    )


# ---- the request -----------------------------------------------------------------------------------------------------


def make_request(args: argparse.Namespace) -> Request:
    """The arguments, checked before the table is read. Raises FitError that names the wrong one."""
    x, names = parse_variables(args.x), tuple(args.law.split(","))
    check_fit(args, names, x)
    check_compute(args)
    check_chain(args, names)
    return Request(
        laws=names,
        x=x,
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
        suggest=read_suggest(args) if args.suggest else None,
        allocate=tuple(args.allocate),
        isoflop=args.isoflop,
        chain=Chain(accuracy=args.chain[0], tries=args.chain[1]) if args.chain else None,
    )


def parse_variables(texts: Sequence[str]) -> dict[str, str]:
    """`N=params` as variable → column. Raises FitError on any other text, and on a variable that is named twice."""
    pairs = [text.partition("=") for text in texts]
    if bad := [text for text, (_, equals, column) in zip(texts, pairs, strict=True) if not equals or not column]:
        raise FitError(f"--x {bad[0]!r}: write VARIABLE=COLUMN, such as N=params")
    if len({variable for variable, _, _ in pairs}) < len(pairs):
        raise FitError(f"--x names a variable twice: {', '.join(texts)}")
    return {variable: column for variable, _, column in pairs}


def check_fit(args: argparse.Namespace, names: Sequence[str], x: dict[str, str]) -> None:
    """Raises FitError on unknown laws and objectives, and on options that do not go together."""
    if args.bootstrap < 0:
        raise FitError(f"--bootstrap {args.bootstrap}: at least 0")
    parse(args.objective)
    for name in names if names != ("auto",) else ():
        if missing := set(find(name).variables) - set(x):
            raise FitError(f"--law {name} needs --x {min(missing)}=COLUMN")
    if bool(args.suggest) != bool(args.candidates):
        raise FitError("--suggest K and --candidates FILE go together")


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
    if args.chain and (bad := [name for name in names if name == "auto" or find(name).of != "loss"]):
        raise FitError(f"--chain needs a law of loss, such as --law additive, not {bad[0]!r}")


def read_suggest(args: argparse.Namespace) -> Suggest:
    return Suggest(k=args.suggest, candidates=table.read(args.candidates), cost=args.cost)


# ---- the fits --------------------------------------------------------------------------------------------------------


def fit_all(groups: Sequence[tuple[dict[str, Any], Any]], request: Request, jobs: int) -> list[dict[str, Any]]:
    """The records of all groups in their order, with a line of progress."""
    keys, tables = zip(*groups, strict=True)
    n = len(groups)
    # Spawned, not forked: the threads of Polars do not survive a fork, and a group would wait for them without end.
    with ProcessPoolExecutor(max(1, min(jobs, n, os.cpu_count() or 1)), mp_context=get_context("spawn")) as pool:
        run = map if jobs == 1 else pool.map
        fits: list[dict[str, Any]] = []
        for done, records in enumerate(run(group.fit_group, keys, tables, [request] * n), 1):
            fits += records
            if sys.stderr.isatty():
                print(f"\r\033[K{done} groups done, {n - done} left", end="" if done < n else "\n", file=sys.stderr)
    return fits


def main() -> int:
    args = parse_arguments()
    request = make_request(args)
    check_out(args.out)
    began = time.monotonic()
    groups = table.split_groups(table.read(args.table, args.where), request)
    fits = fit_all(groups, request, args.jobs)
    Path(args.out).write_text(
        json.dumps({"seconds": time.monotonic() - began, "fits": fits}, indent=1, default=str, allow_nan=False)
    )
    for record in fits:
        print(*write_lines(record), sep="\n")
    print(f"Written: {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(exit_status(main, FitError))
