"""A study's report: what its fine-tunes left in the models, at what cost, on one page that needs no network.

    python jobs/report.py runs/quickstart

Everything on the page comes from the two results tables, by way of one table of items that the page hands out with the
command that fits it anew.
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
from analysis.study.collapse import Collapse
from analysis.study.contrasts import Ranking
from analysis.study.fits import Fitted, Progress

PACKAGES = ("engram", "numpy", "scipy", "statsmodels", "polars")
COMPUTE, TOKENS = "training compute, FLOPs", "training tokens"


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """What the page is made from: the study's name, its results tables and their files, and trials without result."""

    study: str
    files: Mapping[str, bytes]  # file name → content, for the fingerprints
    trials: pl.DataFrame
    questions: pl.DataFrame
    unfinished: Sequence[str] = ()


def html(source: Source, progress: Progress = lambda line: None) -> str:
    """The page. `progress` is told what is being done. Raises FitError for results that hold nothing to tell."""
    items = by_item.table(source.trials, source.questions)
    if not items.filter(context_mode="none").height:
        raise FitError("no trial of context mode none is done: there is nothing to tell yet")
    fits = study_fits.fit_all(items, progress)
    progress("one curve for all sizes?")
    verdict = study_fits.judged(items)
    ranking = contrasts.rank(items)
    tables = all_tables(source, items, ranking)
    handed_out = {"by_item": study_fits.with_laws(items, fits), **tables}
    files = {f"{name}.csv": table.write_csv().encode() for name, table in handed_out.items()}
    files["fits.json"] = as_json([f.record for f in fits if f.record])
    return template().render(
        study=source.study,
        question=question(source.trials, items),
        short=in_short(tables["gaps"], ranking, verdict),
        gaps=gap_figures(tables["gaps"]),
        compute=compute_figures(fits, items),
        collapse=verdict,
        collapse_figures=collapse_figures(verdict, items),
        ranking=ranking,
        tables={name: table.to_dicts() for name, table in tables.items()},
        fits=fits,
        command=study_fits.command("by_item.csv", "fits.json"),
        hashes={name: hashlib.sha256(content).hexdigest() for name, content in source.files.items()},
        versions={name: version(name) for name in PACKAGES},
        rows={"trials": source.trials["trial"].n_unique(), "questions": source.questions.height},
        shadowed=items.filter(pl.col("context_mode") != "none").height,
        unfinished=source.unfinished,
        request=study_fits.REQUEST,
        downloads={name: as_address(content) for name, content in files.items()},
        light=figures.style(figures.LIGHT),
        dark=figures.style(figures.DARK),
    )


def as_address(content: bytes) -> str:
    """A file within the page."""
    return "data:application/octet-stream;base64," + base64.b64encode(content).decode()


def template() -> jinja2.Template:
    loader = jinja2.PackageLoader("analysis.report", "")
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"points": points, "percent": percent, "number": number, "p": p_value}
    return environment.get_template("page.html.jinja")


def as_json(records: Sequence[Mapping[str, Any]]) -> bytes:
    return json.dumps({"fits": records}, indent=1, default=str, allow_nan=False).encode()


# ---- words -----------------------------------------------------------------------------------------------------------


def question(trials: pl.DataFrame, items: pl.DataFrame) -> str:
    """What the study asks, in a sentence."""
    names = trials.sort("params")["trainee"].unique(maintain_order=True).to_list()
    domains = contrasts.listed(sorted(trials["domain"].unique()))
    return (
        f"What does fine-tuning {contrasts.listed(names)} on {items['item'].n_unique()} news items ({domains}) leave "
        f"in the weights, by which protocol, and at what cost?"
    )


def in_short(gaps: pl.DataFrame, ranking: Ranking | None, verdict: Collapse | str) -> list[str]:
    """The findings, a sentence each."""
    told = "; ".join(
        f"{row['trainee']} {interval(row)}" for row in study_fits.headline_gaps(gaps).iter_rows(named=True)
    )
    lines = [f"FT-ICL gap (ICL before training minus closed-book after naive training): {told}."] * bool(told)
    lines += [ranking.sentence] if ranking else []
    return [*lines, verdict if isinstance(verdict, str) else verdict.headline]


def interval(row: Mapping[str, Any]) -> str:
    """`+12 points [+3, +21]`"""
    told = f"{points(row['mean'])} points"
    return told if row["low"] is None else f"{told} [{points(row['low'])}, {points(row['high'])}]"


def points(share: float | None) -> str:
    """A difference of shares in points."""
    return "" if share is None else f"{100 * share:+.1f}".replace("-", "−")


def percent(share: float | None) -> str:
    """A share in percent."""
    return "" if share is None else f"{100 * share:.1f} %"


def number(value: float | None) -> str:
    """Three digits, powers of ten where they are needed."""
    return "" if value is None else f"{value:.3g}"


def p_value(value: float | None) -> str:
    """A p-value."""
    return "" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


# ---- figures ---------------------------------------------------------------------------------------------------------


def gap_figures(gaps: pl.DataFrame) -> dict[str, str]:
    """By trainee."""
    axis = "ICL before − closed-book after, points"
    return {
        name: figures.dots(part, "domain", "protocol", f"FT-ICL gap of {name} by domain and protocol", axis)
        for (name,), part in gaps.group_by("trainee", maintain_order=True)
    }


def compute_figures(fits: Sequence[Fitted], items: pl.DataFrame) -> dict[str, str]:
    """By protocol: each size's trials and law."""
    chance = float(np.mean(items["chance"].to_numpy()))
    return {
        name: figures.curves(
            [series(f) for f in fits if f.arm["protocol"] == name],
            f"Accuracy against training compute under {name}",
            COMPUTE,
            chance,
        )
        for name in dict.fromkeys(f.arm["protocol"] for f in fits)
    }


def series(fitted: Fitted) -> figures.Series:
    """Its trials, and its law where there is one."""
    trials = by_trial(fitted.rows)
    x = trials["train_flops"].to_numpy()
    curve = None
    if fitted.forms and len(x) > 1:
        grid = np.geomspace(x.min(), x.max(), 60)
        middle = selection.mix(fitted.forms.members, {"x": grid})
        level = uncertainty.expanded(uncertainty.LEVEL, fitted.rows["item"].n_unique(), 1)
        curve = (grid, middle, *uncertainty.curve_intervals(fitted.forms.members, {"x": grid}, level))
    return figures.Series(name=fitted.name, x=x, y=trials["accuracy"].to_numpy(), curve=curve)


def by_trial(rows: pl.DataFrame) -> pl.DataFrame:
    """Trials with their accuracy, compute and tokens."""
    right = (pl.col("closed_book_after") * pl.col("n_questions")).sum() / pl.col("n_questions").sum()
    return rows.group_by("trial", "params", "trainee", "train_flops", "train_tokens").agg(accuracy=right).sort("trial")


def collapse_figures(verdict: Collapse | str, items: pl.DataFrame) -> dict[str, str]:
    """All sizes over compute and over tokens, with the one curve; nothing where there is no verdict."""
    if isinstance(verdict, str):
        return {}
    found = collapse.points(items)
    chance = collapse.chance(found)
    drawn = {}
    for comparison, axis in ((verdict.compute, COMPUTE), (verdict.tokens, TOKENS)):
        trials = by_trial(found).sort("params")
        x = trials[comparison.x].to_numpy()
        grid = np.geomspace(x.min(), x.max(), 60)
        every = [
            figures.Series(name=name, x=part[comparison.x].to_numpy(), y=part["accuracy"].to_numpy())
            for (name,), part in trials.group_by("trainee", maintain_order=True)
        ]
        one = figures.Series(
            name="one curve",
            x=np.array([]),
            y=np.array([]),
            curve=(grid, *collapse.curve(comparison, found, grid)),
        )
        title = f"All sizes over {collapse.NAMES[comparison.x]}"
        drawn[title] = figures.curves([*every, one], title, axis, chance)
    return drawn


# ---- tables ----------------------------------------------------------------------------------------------------------


def all_tables(source: Source, items: pl.DataFrame, ranking: Ranking | None) -> dict[str, pl.DataFrame]:
    """All tables of the page that hold anything, by name."""
    found = {
        "gaps": contrasts.gaps(items),
        "learned": contrasts.learned(items),
        "shadowing": contrasts.shadowing(items),
        "overexposure": contrasts.overexposure(items),
        "general": general(source.trials),
        "costs": costs(source.trials),
    }
    if ranking:
        found |= {"ranking": ranking.accuracies.drop("p_value"), "pairs": ranking.pairs}
    return {name: table for name, table in found.items() if table.height or name == "gaps"}


def general(trials: pl.DataFrame) -> pl.DataFrame:
    """Accuracy on questions without news, before and after, where it was asked."""
    asked = trials.filter(pl.col("accuracy_general").is_not_null())
    when = {m: pl.col("accuracy_general").filter(moment=m).mean() for m in ("before", "after")}
    arm = ["trainee", "protocol", "context_mode", "budget"]
    return asked.group_by("params", *arm).agg(**when).sort("params", *arm[1:]).drop("params")


def costs(trials: pl.DataFrame) -> pl.DataFrame:
    """What an arm's trial takes and teaches, means over its trials."""
    arm = ["trainee", "protocol", "context_mode", "budget"]
    measured = ["train_tokens", "train_flops", "selfplay_flops", "gpu_seconds", "train_seconds", "estimated_seconds"]
    after = trials.filter(moment="after", condition="closed_book")
    return (
        after.group_by("params", *arm)
        .agg(pl.len().alias("trials"), pl.col("accuracy", *measured).mean())
        .sort("params", *arm[1:])
        .drop("params")
    )
