"""The report of a study: what fine-tuning left in the models, and at what cost, on one page that needs no network.

    python jobs/report.py runs/quickstart

Everything on the page comes from the two results tables, through one table of items. The page contains this table for
download, with the command that repeats its fits.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import jinja2
import numpy as np
import polars as pl

from analysis.errors import FitError
from analysis.fits import selection, uncertainty
from analysis.report import figures
from analysis.study import by_item, collapse, contrasts
from analysis.study import fits as study_fits
from analysis.study.collapse import Collapse, Comparison
from analysis.study.contrasts import Ranking
from analysis.study.fits import ArmFit, Progress

PACKAGES = ("engram", "numpy", "scipy", "statsmodels", "polars")
COMPUTE, TOKENS = "training compute, FLOPs", "training tokens"


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """What the page is made from: the name of the study, its results tables and files, and trials without a result."""

    study: str
    files: Mapping[str, bytes]  # file name → content, for the fingerprints
    trials: pl.DataFrame
    questions: pl.DataFrame
    unfinished: Sequence[str] = ()


def render(source: Source, progress: Progress = lambda line: None) -> str:
    """Renders the page; calls `progress` with what is being done. Raises FitError if there are no results to show."""
    items = by_item.make_table(source.trials, source.questions)
    if not items.filter(context_mode="none").height:
        raise FitError("no trial of context mode none is done, so there are no results to show: run more of the study")
    fits = study_fits.fit_all(items, progress)
    progress("one curve for all sizes?")
    verdict, ranking = study_fits.judge_collapse(items), contrasts.rank(items)
    tables = make_tables(source, items, ranking)
    return load_template().render(
        study=source.study,
        question=write_question(source.trials, items),
        short=write_findings(tables["gaps"], ranking, verdict),
        gaps=draw_gaps(tables["gaps"]),
        compute=draw_compute(fits, items),
        collapse=verdict,
        collapse_figures=draw_collapse(verdict, items),
        ranking=ranking,
        tables={name: table.to_dicts() for name, table in tables.items()},
        fits=fits,
        downloads=make_downloads({"by_item": study_fits.mark_fitted(items, fits), **tables}, fits),
        light=figures.write_style(figures.LIGHT),
        dark=figures.write_style(figures.DARK),
        **describe_data(source, items),
    )


def describe_data(source: Source, items: pl.DataFrame) -> dict[str, Any]:
    """What the fit card says of the data, of what is left out, and of how to repeat the fits."""
    return {
        "command": study_fits.write_command("by_item.csv", "fits.json"),
        "hashes": {name: hashlib.sha256(content).hexdigest() for name, content in source.files.items()},
        "versions": {name: version(name) for name in PACKAGES},
        "rows": {"trials": source.trials["trial"].n_unique(), "questions": source.questions.height},
        "shadowed": items.filter(pl.col("context_mode") != "none").height,
        "unfinished": source.unfinished,
        "request": study_fits.REQUEST,
    }


def make_downloads(tables: Mapping[str, pl.DataFrame], fits: Sequence[ArmFit]) -> dict[str, str]:
    """The tables as CSV files and the records of the fits as JSON, as addresses within the page."""
    files = {f"{name}.csv": table.write_csv().encode() for name, table in tables.items()}
    records = {"fits": [f.record for f in fits if f.record]}
    files["fits.json"] = json.dumps(records, indent=1, default=str, allow_nan=False).encode()
    start = "data:application/octet-stream;base64,"
    return {name: start + base64.b64encode(content).decode() for name, content in files.items()}


def load_template() -> jinja2.Template:
    """The template of the page, with the filters that it uses."""
    loader = jinja2.PackageLoader("analysis.report", "")
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    filters = {"points": format_points, "percent": format_percent, "number": format_number, "p": format_p_value}
    environment.filters |= filters
    return environment.get_template("page.html.jinja")


# ---- words -----------------------------------------------------------------------------------------------------------


def write_question(trials: pl.DataFrame, items: pl.DataFrame) -> str:
    """The question of the study, as one sentence."""
    names = trials.sort("params")["trainee"].unique(maintain_order=True).to_list()
    domains = contrasts.join_words(sorted(trials["domain"].unique()))
    return (
        f"What does fine-tuning {contrasts.join_words(names)} on {items['item'].n_unique()} news items ({domains}) "
        f"leave in the weights, with which protocol, and at what cost?"
    )


def write_findings(gaps: pl.DataFrame, ranking: Ranking | None, verdict: Collapse | str) -> list[str]:
    """The findings, one sentence each."""
    rows = study_fits.select_headlines(gaps).iter_rows(named=True)
    by_trainee = "; ".join(f"{row['trainee']} {format_interval(row)}" for row in rows)
    lines = [f"FT-ICL gap (ICL before training minus closed-book after naive training): {by_trainee}."]
    lines = lines if by_trainee else []
    lines += [ranking.sentence] if ranking else []
    return [*lines, verdict if isinstance(verdict, str) else verdict.headline]


def format_interval(row: Mapping[str, Any]) -> str:
    """`+12 points [+3, +21]`"""
    mean = f"{format_points(row['mean'])} points"
    return mean if row["low"] is None else f"{mean} [{format_points(row['low'])}, {format_points(row['high'])}]"


def format_points(share: float | None) -> str:
    """A difference of shares in points."""
    return "" if share is None else f"{100 * share:+.1f}".replace("-", "−")


def format_percent(share: float | None) -> str:
    """A share in percent."""
    return "" if share is None else f"{100 * share:.1f} %"


def format_number(value: float | None) -> str:
    """Three digits, with a power of ten if it is needed."""
    return "" if value is None else f"{value:.3g}"


def format_p_value(value: float | None) -> str:
    """A p-value; below 0.001 only that it is."""
    return "" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


# ---- figures ---------------------------------------------------------------------------------------------------------


def draw_gaps(gaps: pl.DataFrame) -> dict[str, str]:
    """The gaps of each trainee."""
    axis = "ICL before − closed-book after, points"
    return {
        name: figures.draw_dots(part, "domain", "protocol", f"FT-ICL gap of {name} by domain and protocol", axis)
        for (name,), part in gaps.group_by("trainee", maintain_order=True)
    }


def draw_compute(fits: Sequence[ArmFit], items: pl.DataFrame) -> dict[str, str]:
    """By protocol: the trials and the law of each size."""
    chance = float(np.mean(items["chance"].to_numpy()))
    return {
        name: figures.draw_curves(
            [make_series(f) for f in fits if f.arm["protocol"] == name],
            f"Accuracy against training compute under {name}",
            COMPUTE,
            chance,
        )
        for name in dict.fromkeys(f.arm["protocol"] for f in fits)
    }


def make_series(fit: ArmFit) -> figures.Series:
    """The trials of an arm, and its law if there is one."""
    trials = list_trials(fit.rows)
    x = trials["train_flops"].to_numpy()
    curve = None
    if fit.forms and len(x) > 1:
        grid = np.geomspace(x.min(), x.max(), 60)
        middle = selection.mix(fit.forms.members, {"x": grid})
        level = uncertainty.widen(uncertainty.LEVEL, fit.rows["item"].n_unique(), 1)
        curve = (grid, middle, *uncertainty.curve_intervals(fit.forms.members, {"x": grid}, level))
    return figures.Series(name=fit.name, x=x, y=trials["accuracy"].to_numpy(), curve=curve)


def list_trials(rows: pl.DataFrame) -> pl.DataFrame:
    """Trials with their accuracy, compute and tokens."""
    right = (pl.col("closed_book_after") * pl.col("n_questions")).sum() / pl.col("n_questions").sum()
    return rows.group_by("trial", "params", "trainee", "train_flops", "train_tokens").agg(accuracy=right).sort("trial")


def draw_collapse(verdict: Collapse | str, items: pl.DataFrame) -> dict[str, str]:
    """All sizes over compute and over tokens, with the one curve; no figures without a verdict."""
    if isinstance(verdict, str):
        return {}
    points = collapse.make_points(items)
    pairs = ((verdict.compute, COMPUTE), (verdict.tokens, TOKENS))
    return {f"All sizes over {collapse.NAMES[c.x]}": draw_one_curve(c, points, axis) for c, axis in pairs}


def draw_one_curve(comparison: Comparison, points: pl.DataFrame, axis: str) -> str:
    """The trials of all sizes over one x, with the one curve."""
    trials = list_trials(points).sort("params")
    x = trials[comparison.x].to_numpy()
    grid = np.geomspace(x.min(), x.max(), 60)
    sizes = [
        figures.Series(name=name, x=part[comparison.x].to_numpy(), y=part["accuracy"].to_numpy())
        for (name,), part in trials.group_by("trainee", maintain_order=True)
    ]
    curve = (grid, *collapse.make_curve(comparison, points, grid))
    one = figures.Series(name="one curve", x=np.array([]), y=np.array([]), curve=curve)
    title = f"All sizes over {collapse.NAMES[comparison.x]}"
    return figures.draw_curves([*sizes, one], title, axis, collapse.mean_chance(points))


# ---- tables ----------------------------------------------------------------------------------------------------------


def make_tables(source: Source, items: pl.DataFrame, ranking: Ranking | None) -> dict[str, pl.DataFrame]:
    """All tables of the page that have rows, by name."""
    tables = {
        "gaps": contrasts.measure_gaps(items),
        "learned": contrasts.measure_learning(items),
        "shadowing": contrasts.measure_shadowing(items),
        "overexposure": contrasts.measure_overexposure(items),
        "general": tabulate_general(source.trials),
        "costs": tabulate_costs(source.trials),
    }
    if ranking:
        tables |= {"ranking": ranking.accuracies.drop("p_value"), "pairs": ranking.pairs}
    return {name: table for name, table in tables.items() if table.height or name == "gaps"}


def tabulate_general(trials: pl.DataFrame) -> pl.DataFrame:
    """Accuracy on questions that do not concern the news, before and after, if they were asked."""
    asked = trials.filter(pl.col("accuracy_general").is_not_null())
    when = {m: pl.col("accuracy_general").filter(moment=m).mean() for m in ("before", "after")}
    arm = ["trainee", "protocol", "context_mode", "budget"]
    return asked.group_by("params", *arm).agg(**when).sort("params", *arm[1:]).drop("params")


def tabulate_costs(trials: pl.DataFrame) -> pl.DataFrame:
    """The cost and the accuracy of each arm, means over its trials."""
    arm = ["trainee", "protocol", "context_mode", "budget"]
    measured = ["train_tokens", "train_flops", "selfplay_flops", "gpu_seconds", "train_seconds", "estimated_seconds"]
    after = trials.filter(moment="after", condition="closed_book")
    return (
        after.group_by("params", *arm)
        .agg(pl.len().alias("trials"), pl.col("accuracy", *measured).mean())
        .sort("params", *arm[1:])
        .drop("params")
    )
