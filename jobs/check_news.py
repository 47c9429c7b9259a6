"""Checks news by measurement: can its questions be answered without the news, with it, or by rules that understand
nothing?

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
from cli import check_out, exit_status

from analysis.study import news_quality
from engine import UserError
from engine.authoring import untrained, wording
from engine.cluster import machines, session
from engine.models import catalogue
from engine.models.architecture import n_params
from engine.news.items import NewsItem, load_news
from engine.storage.store import Store

FORMS = ("choice", "statement", "task")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("news", nargs="?", help="JSON Lines file (default: the shipped news)")
    parser.add_argument(
        "--models", nargs="*", default=["smollm2-135m"], metavar="NAME", help="ask these (default: smollm2-135m)"
    )
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=FORMS, help="ask in these (default: all)")
    parser.add_argument("--domains", nargs="+", metavar="NAME", help="only these domains")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32", help="default: %(default)s")
    parser.add_argument("--device", choices=["cpu", "gpu"], help="default: gpu if this machine has one")
    parser.add_argument("--storage", default="runs/check_news", help="keeps answers there (default: %(default)s)")
    parser.add_argument("--out", metavar="FILE", help="write the report there too, as Markdown")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    check_out(args.out)
    items = [i for i in load_news(args.news) if not args.domains or i.domain in args.domains]
    if not items:
        raise UserError(f"no news of the domains {', '.join(args.domains)}")
    for name in args.models:
        catalogue.find(name)
    rules = pl.DataFrame(wording.score_rules(items))
    rows = ask_models(args, items) if args.models else None
    text = report(items, rules, rows)
    print(text)
    if args.out:
        Path(args.out).write_text(text + "\n", encoding="utf-8")
    return 0


def ask_models(args: argparse.Namespace, items: Sequence[NewsItem]) -> pl.DataFrame:
    """The rows of all models, with the columns that `news_quality` reads."""
    store, machine = Store(args.storage), machines.this_machine(args.device)
    with session.running():
        found = [
            untrained.measure(name, items, args.forms, args.precision, store, machine).with_columns(
                model=pl.lit(name), params=pl.lit(n_params(catalogue.find(name).architecture))
            )
            for name in args.models
        ]
    domain = {i.id: i.domain for i in items}
    return pl.concat(found).with_columns(
        n_options=pl.col("option_logprobs").list.len().fill_null(0),
        domain=pl.col("item").replace_strict(domain),
    )


def report(items: Sequence[NewsItem], rules: pl.DataFrame, rows: pl.DataFrame | None) -> str:
    """All tables and verdicts as Markdown."""
    found = news_quality.shares(rows) if rows is not None else None
    verdicts = list(news_quality.rule_verdicts(rules) if found is None else news_quality.verdicts(found, rules))
    parts = [f"{len(items)} items, {sum(len(i.questions) for i in items)} questions\n"]
    if found is not None and rows is not None:
        parts += ["Right, in percent [95 % interval]\n", news_quality.markdown(news_quality.accuracy_table(found)), ""]
        parts += ["Fewer than half right with the news in context, by the largest model\n"]
        parts += [news_quality.markdown(news_quality.failed_in_context(rows)), ""]
    parts += ["Right by rules that understand nothing, in percent\n"]
    parts += [news_quality.markdown(news_quality.rule_table(rules)), "", nearest(items), ""]
    parts += [f"- {'holds' if v.holds else 'DOES NOT HOLD'}: {v.check}: {v.detail}" for v in verdicts]
    return "\n".join(parts)


def nearest(items: Sequence[NewsItem]) -> str:
    """The pairs of items, and of questions of different items, that are most alike."""
    questions = {q.id: " ".join((q.text, *q.options)) for i in items for q in i.questions}
    alike = {
        "items": wording.find_similar_pairs({i.id: i.text for i in items}),
        "questions of different items": wording.find_similar_pairs(questions),
    }
    return "\n".join(
        f"Most alike of the {what} (of 100): " + ", ".join(f"{a} and {b} {x:.0f}" for x, a, b in pairs)
        for what, pairs in alike.items()
    )


if __name__ == "__main__":
    sys.exit(exit_status(main))
