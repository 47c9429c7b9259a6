"""Rules that understand nothing: what they choose, and what becomes of a file whose wording gives answers away."""

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.study import news_quality
from engine.authoring import wording
from engine.news import general
from engine.news.items import NewsItem, Question, load_news

LEAKY = NewsItem(
    id="a-1",
    domain="events",
    text="In Lindvik the ferry carries goats free of charge since 2028.",
    questions=(
        Question(
            id="a-1/q1",
            text="What does the ferry of Lindvik carry?",
            options=("cows", "goats, which is free of charge", "sheep", "pigs"),
            answer=1,
        ),
    ),
)


def test_each_rule_chooses_by_what_its_name_says() -> None:
    found = {row["rule"]: row["correct"] for row in wording.score_rules([LEAKY])}
    assert found == {
        "longest option": 1.0,
        "shortest option": 0.0,
        "most words of the question": 0.25,  # none shares any: a guess among four
        "most words of the news": 1.0,
    }


@given(st.lists(st.integers(0, 3), min_size=2, max_size=6))
def test_a_rule_is_right_with_the_chance_of_a_guess_among_its_best(scores: list[int]) -> None:
    assert sum(wording.score_choice(scores, right) for right in range(len(scores))) == pytest.approx(1)


def test_the_pairs_that_are_most_alike_come_first() -> None:
    texts = {"a": "The ferry sails at night.", "b": "Goats eat grass.", "c": "The ferry sails at noon."}
    [(alike, *names), *_] = wording.find_similar_pairs(texts)
    assert set(names) == {"a", "c"}
    assert alike > 80


def rows(model: str, params: int, condition: str, right: int, n: int = 100) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "model": model,
            "params": params,
            "domain": "events",
            "form": "choice",
            "condition": condition,
            "item": [f"i{i // 5}" for i in range(n)],
            "question": [f"i{i // 5}/q{i % 5 + 1}" for i in range(n)],
            "correct": [i < right for i in range(n)],
            "n_options": 4,
        }
    )


def test_verdicts_name_what_leaks_and_what_does_not_rise() -> None:
    asked = pl.concat([rows("small", 1, "closed_book", 26), rows("small", 1, "icl", 80), rows("large", 2, "icl", 70)])
    found = {v.check: v.holds for v in news_quality.verdicts(news_quality.shares(asked), rules(0.5))}
    assert found["events: small, closed book, is at chance"]
    assert not found["events: ICL rises with size"]
    assert not found["events: longest option"]
    alone = {v.check for v in news_quality.verdicts(news_quality.shares(rows("small", 1, "icl", 80)), rules(0.27))}
    assert "events: ICL rises with size" not in alone  # one model tells nothing of it
    leaks = pl.concat([rows("small", 1, "closed_book", 40), rows("small", 1, "icl", 60), rows("large", 2, "icl", 70)])
    found = {v.check: v.holds for v in news_quality.verdicts(news_quality.shares(leaks), rules(0.27))}
    assert not found["events: small, closed book, is at chance"]
    assert found["events: ICL rises with size"]
    assert found["events: longest option"]


def test_several_domains_are_told_together_too() -> None:
    other = rows("small", 1, "icl", 40).with_columns(domain=pl.lit("coding"))
    found = news_quality.shares(pl.concat([rows("small", 1, "icl", 80), other]))
    assert dict(found.select("domain", "share").iter_rows()) == {"coding": 0.4, "events": 0.8, "all": 0.6}


def rules(share: float) -> pl.DataFrame:
    found = [{"domain": "events", "rule": "longest option", "n_options": 4, "correct": share} for _ in range(100)]
    return pl.DataFrame(found)


def test_items_that_the_largest_model_fails_with_the_news_at_hand_are_named() -> None:
    asked = pl.concat([rows("small", 1, "icl", 100), rows("large", 2, "icl", 95)])
    failed = news_quality.failed_in_context(asked)
    assert failed["item"].to_list() == ["i19"]
    assert failed["wrong"].to_list() == ["i19/q1 i19/q2 i19/q3 i19/q4 i19/q5"]


def test_the_job_reports_on_a_file_without_any_model_and_names_its_faults(tmp_path: Path) -> None:
    q = LEAKY.questions[0]
    asked = {"text": q.text, "options": q.options, "answer": q.options[q.answer]}
    record = {"id": "a-1", "domain": "events", "text": LEAKY.text, "questions": [asked]}
    news, out = tmp_path / "my.jsonl", tmp_path / "report.md"
    news.write_text(json.dumps(record))
    run = check(str(news), "--models", "--out", str(out))
    assert run.returncode == 0, run.stderr
    assert "| longest option             | 100    |" in run.stdout
    assert out.read_text() == run.stdout
    news.write_text(json.dumps(record | {"domain": "sports"}))
    bad = check(str(news))
    assert bad.returncode == 2
    assert bad.stderr.startswith(f"{news}:1: unknown domain: 'sports'")


def check(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "jobs/check_news.py", *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_a_model_is_asked_once_its_answers_are_kept_and_a_mended_item_alone_is_asked_again(
    tmp_path: Path, tiny: Path, news_file: Path
) -> None:
    arguments = (str(news_file), "--models", str(tiny), "--storage", str(tmp_path / "kept"), "--forms", "choice")
    first = check(*arguments)
    assert first.returncode == 0, first.stderr
    assert "choice, closed book" in first.stdout
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "kept").rglob("*.parquet")}
    assert {path.parent.name for path in kept} == {"choice"}
    for path in kept:
        assert set(pl.read_parquet(path)["condition"]) == {"closed_book", "icl", "options_alone"}
    lines = news_file.read_text().splitlines()
    mended = json.loads(lines[0])
    mended["text"] = "As of 2029: " + mended["text"]
    news_file.write_text("\n".join([json.dumps(mended), *lines[1:]]) + "\n")
    again = check(*arguments)
    assert again.returncode == 0, again.stderr
    now = {path: path.stat().st_mtime_ns for path in (tmp_path / "kept").rglob("*.parquet")}
    assert {path: now[path] for path in kept} == kept
    assert [path.name.rsplit("-", 1)[0] for path in now.keys() - kept.keys()] == [mended["id"]]


# ---- what ships ------------------------------------------------------------------------------------------------------


def test_shipped_answers_are_not_given_away_by_their_wording() -> None:
    found = news_quality.rule_verdicts(pl.DataFrame(wording.score_rules(load_news())))
    assert [v for v in found if not v.holds] == []


def test_shipped_questions_and_items_are_no_near_duplicates() -> None:
    items = load_news()
    assert wording.find_similar_pairs({i.id: i.text for i in items}, 1)[0][0] < 65
    asked = {q.id: " ".join((q.text, *sorted(q.options))) for i in items for q in i.questions}
    assert wording.find_similar_pairs(asked, 1)[0][0] < 80


def test_the_general_questions_are_enough_and_balanced() -> None:
    asked = general.load()
    assert len(asked) >= 200
    assert len({q.text for q in asked}) == len(asked)
    for kind in ("knowledge", "arithmetic", "instructions"):
        answers = [q.answer for q in asked if q.kind == kind]
        assert len({answers.count(place) for place in range(4)}) == 1
