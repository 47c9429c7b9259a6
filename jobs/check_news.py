"""Checks the questions of a news file. Can models answer them without the news, with the news, or from the options
alone? Can simple rules such as “choose the longest option” find the answer?

examples:
  python jobs/check_news.py my.jsonl
  python jobs/check_news.py --models smollm2-135m qwen2.5-coder-0.5b qwen2.5-coder-1.5b --out report.md
  python jobs/check_news.py --models qwen2.5-coder-1.5b --forms choice
  python jobs/check_news.py my.jsonl --models
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import polars as pl
from cli import check_out, exit_status, find_cluster

from analysis.study import news_quality
from engine import UserError
from engine.authoring import untrained, wording
from engine.cluster import session
from engine.models import catalogue
from engine.models.architecture import n_params
from engine.news.items import NewsItem, load_news
from engine.storage.store import Store

FORMS = ("choice", "statement", "task")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("news", nargs="?", help="JSON Lines file (default: the shipped news)")
    parser.add_argument(
        "--models",
        nargs="*",
        default=["smollm2-135m"],
        metavar="NAME",
        help="models to ask; without a name, only the wording is checked (default: smollm2-135m)",
    )
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=FORMS, help="forms of questions (default: all)")
    parser.add_argument("--domains", nargs="+", metavar="NAME", help="check only these domains (default: all)")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32", help="default: %(default)s")
    parser.add_argument("--device", choices=["cpu", "gpu"], help="default: gpu if this machine has one")
    parser.add_argument("--storage", default="runs/check_news", help="folder for answers (default: %(default)s)")
    parser.add_argument("--out", metavar="FILE", help="also write the report to this file, as Markdown")
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()
    check_out(args.out)
    news = load_news(args.news)
    items = [i for i in news if not args.domains or i.domain in args.domains]
    if not items:
        domains = sorted({i.domain for i in news})
        raise UserError(f"no news in the domains {', '.join(args.domains)}; use {', '.join(domains)}")
    for name in args.models:
        catalogue.find(name)
    rules = pl.DataFrame(wording.score_rules(items))
    rows = ask_models(args, items) if args.models else None
    text = format_report(items, rules, rows)
    print(text)
    if args.out:
        Path(args.out).write_text(text + "\n", encoding="utf-8")
    return 0


def ask_models(args: argparse.Namespace, items: Sequence[NewsItem]) -> pl.DataFrame:
    """Gives the rows of all models, with the columns that `news_quality` reads."""
    store, cluster = Store(args.storage), find_cluster(args.device)
    with session.running():
        tables = [
            untrained.measure(name, items, args.forms, args.precision, store, cluster).with_columns(
                model=pl.lit(name), params=pl.lit(n_params(catalogue.find(name).architecture))
            )
            for name in args.models
        ]
    domain = {i.id: i.domain for i in items}
    return pl.concat(tables).with_columns(
        n_options=pl.col("option_logprobs").list.len().fill_null(0),
        domain=pl.col("item").replace_strict(domain),
    )


def format_report(items: Sequence[NewsItem], rules: pl.DataFrame, rows: pl.DataFrame | None) -> str:
    """Gives all tables and checks as Markdown. `rows` is None if no model was asked."""
    parts = [f"{len(items)} items, {sum(len(i.questions) for i in items)} questions\n"]
    verdicts = news_quality.rule_verdicts(rules)
    if rows is not None:
        shares = news_quality.shares(rows)
        verdicts = news_quality.verdicts(shares, rules)
        parts += ["Correct answers per model, in percent [95 % interval]\n"]
        parts += [news_quality.markdown(news_quality.accuracy_table(shares)), ""]
        parts += ["Items with fewer than half of the answers correct, largest model with the news in context\n"]
        parts += [news_quality.markdown(news_quality.failed_in_context(rows)), ""]
    parts += ["Correct answers per simple rule, in percent\n"]
    parts += [news_quality.markdown(news_quality.rule_table(rules)), "", format_similar_pairs(items), ""]
    parts += ["Checks: without the news, models and simple rules have to be at chance\n"]
    parts += [f"- {'passed' if v.holds else 'FAILED'}: {v.check}: {v.detail}" for v in verdicts]
    return "\n".join(parts)


def format_similar_pairs(items: Sequence[NewsItem]) -> str:
    """Gives one line with the most similar items, and one with the most similar questions about different items."""
    questions = {q.id: " ".join((q.text, *q.options)) for i in items for q in i.questions}
    pairs = {
        "items": wording.find_similar_pairs({i.id: i.text for i in items}),
        "questions about different items": wording.find_similar_pairs(questions),
    }
    return "\n".join(
        f"Most similar {what} (similarity from 0 to 100): " + ", ".join(f"{a} and {b} {x:.0f}" for x, a, b in best)
        for what, best in pairs.items()
    )


if __name__ == "__main__":
    sys.exit(exit_status(main))
