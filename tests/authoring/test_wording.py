"""Checks of the wording: what simple rules choose, which texts are similar, and what `check_news` reports."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import polars as pl
import pytest

from analysis.study import news_quality
from engine.authoring import wording
from engine.news import general
from engine.news.items import DOMAINS, NewsItem, Question, load_news

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


def test_each_rule_chooses_what_its_name_says() -> None:
    correct = {row["rule"]: row["correct"] for row in wording.score_rules([LEAKY])}
    assert correct == {
        "longest option": 1.0,
        "shortest option": 0.0,
        "most words of the question": 0.25,  # no option shares a word: a random choice among four
        "most words of the news": 1.0,
    }


@pytest.mark.parametrize(
    ("scores", "probabilities"),
    [([3, 1, 3, 2], [0.5, 0, 0.5, 0]), ([-2, -1], [0, 1]), ([1, 1, 1, 1], [0.25] * 4)],
)
def test_options_with_the_highest_score_are_equally_likely(scores: list[int], probabilities: list[float]) -> None:
    assert [wording.score_choice(scores, answer) for answer in range(len(scores))] == probabilities


def test_the_most_similar_texts_come_first() -> None:
    texts = {"a": "The ferry sails at night.", "b": "Goats eat grass.", "c": "The ferry sails at noon."}
    [best, second, third] = wording.find_similar_pairs(texts)
    assert best[1:] == ("a", "c")
    assert best[0] > 80 > second[0] >= third[0]
    assert wording.find_similar_pairs(texts, 1) == [best]


def test_questions_about_one_item_are_not_compared() -> None:
    texts = {"a/q1": "What is free?", "a/q2": "What is free?", "b/q1": "Who eats grass?"}
    assert {frozenset(names) for _, *names in wording.find_similar_pairs(texts)} == {
        frozenset({"a/q1", "b/q1"}),
        frozenset({"a/q2", "b/q1"}),
    }


def make_rows(model: str, params: int, condition: str, n_correct: int, n: int = 100) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "model": model,
            "params": params,
            "domain": "events",
            "form": "choice",
            "condition": condition,
            "item": [f"i{i // 5}" for i in range(n)],
            "question": [f"i{i // 5}/q{i % 5 + 1}" for i in range(n)],
            "correct": [i < n_correct for i in range(n)],
            "n_options": 4,
        }
    )


def make_rules(share: float) -> pl.DataFrame:
    row = {"domain": "events", "rule": "longest option", "n_options": 4, "correct": share}
    return pl.DataFrame([row] * 100)


def judge(rows: list[pl.DataFrame], rules: pl.DataFrame) -> Mapping[str, bool]:
    """Reports for each check, by its name, whether it holds."""
    return {v.check: v.holds for v in news_quality.verdicts(news_quality.shares(pl.concat(rows)), rules)}


def test_leaks_and_an_icl_accuracy_that_falls_with_size_are_found() -> None:
    falling = [make_rows("small", 1, "icl", 80), make_rows("large", 2, "icl", 70)]
    assert judge([make_rows("small", 1, "closed_book", 26), *falling], make_rules(0.5)) == {
        "events: small, closed book, is at chance": True,
        "events: ICL rises with size": False,
        "events: longest option": False,
    }
    rising = [make_rows("small", 1, "icl", 60), make_rows("large", 2, "icl", 70)]
    assert judge([make_rows("small", 1, "closed_book", 40), *rising], make_rules(0.27)) == {
        "events: small, closed book, is at chance": False,
        "events: ICL rises with size": True,
        "events: longest option": True,
    }


def test_one_model_alone_is_not_checked_for_a_rise_with_size() -> None:
    assert list(judge([make_rows("small", 1, "icl", 80)], make_rules(0.27))) == ["events: longest option"]


def test_several_domains_are_also_reported_together() -> None:
    coding = make_rows("small", 1, "icl", 40).with_columns(domain=pl.lit("coding"))
    shares = news_quality.shares(pl.concat([make_rows("small", 1, "icl", 80), coding]))
    assert dict(shares.select("domain", "share").iter_rows()) == {"coding": 0.4, "events": 0.8, "all": 0.6}


def test_items_that_the_largest_model_fails_in_context_are_named() -> None:
    rows = pl.concat([make_rows("small", 1, "icl", 100), make_rows("large", 2, "icl", 95)])
    items = news_quality.failed_in_context(rows)
    assert items["item"].to_list() == ["i19"]
    assert items["wrong"].to_list() == ["i19/q1 i19/q2 i19/q3 i19/q4 i19/q5"]


def write_leaky_news(path: Path, n_questions: int, domain: str = "events") -> Path:
    """Writes one item whose n questions have the longest option as their answer."""
    [q] = LEAKY.questions
    question = {"options": q.options, "answer": q.options[q.answer]}
    questions = [{"text": f"What does the ferry of Lindvik carry on day {n}?"} | question for n in range(n_questions)]
    path.write_text(json.dumps({"id": "a-1", "domain": domain, "text": LEAKY.text, "questions": questions}))
    return path


def test_wording_is_checked_without_any_model(tmp_path: Path) -> None:
    news, out = write_leaky_news(tmp_path / "my.jsonl", 10), tmp_path / "report.md"
    run = run_job(str(news), "--models", "--out", str(out))
    assert run.returncode == 0, run.stderr
    assert "| longest option             | 100    |" in run.stdout
    assert "- FAILED: events: longest option: 100%, chance 25% ± 27%" in run.stdout
    assert "- passed: events: most words of the question: 25%, chance 25% ± 27%" in run.stdout
    assert out.read_text() == run.stdout


def test_faults_of_the_file_and_absent_domains_are_reported(tmp_path: Path) -> None:
    news = write_leaky_news(tmp_path / "my.jsonl", 1, domain="my/sports")
    unfit = run_job(str(news))
    assert unfit.returncode == 2
    assert unfit.stderr.startswith(f"{news}:1: ")
    assert "my/sports" in unfit.stderr
    absent = run_job(str(write_leaky_news(news, 1)), "--domains", "coding")
    assert absent.returncode == 2
    assert absent.stderr == "no news in the domains coding; use events\n"


def run_job(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "jobs/check_news.py", *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_answers_are_stored_and_only_a_changed_item_is_asked_again(tmp_path: Path, tiny: Path, news_file: Path) -> None:
    storage = tmp_path / "answers"
    arguments = (str(news_file), "--models", str(tiny), "--storage", str(storage), "--forms", "choice")
    first = run_job(*arguments)
    assert first.returncode == 0, first.stderr
    assert "choice, closed book" in first.stdout
    before = {path: path.stat().st_mtime_ns for path in storage.rglob("*.parquet")}
    lines = news_file.read_text().splitlines()
    assert len(before) == len(lines)
    for path in before:
        assert path.parent.name == "choice"
        assert set(pl.read_parquet(path)["condition"]) == {"closed_book", "icl", "options_alone"}
    item = json.loads(lines[0])
    item["text"] = "As of 2029: " + item["text"]
    news_file.write_text("\n".join([json.dumps(item), *lines[1:]]) + "\n")
    second = run_job(*arguments)
    assert second.returncode == 0, second.stderr
    after = {path: path.stat().st_mtime_ns for path in storage.rglob("*.parquet")}
    assert {path: after[path] for path in before} == before
    assert [path.name.rsplit("-", 1)[0] for path in after.keys() - before.keys()] == [item["id"]]


# ---- the shipped news ------------------------------------------------------------------------------------------------


def test_simple_rules_are_at_chance_on_the_shipped_questions() -> None:
    verdicts = list(news_quality.rule_verdicts(pl.DataFrame(wording.score_rules(load_news()))))
    assert len(verdicts) == len(DOMAINS) * len(wording.RULES)
    assert [v for v in verdicts if not v.holds] == []


def test_shipped_items_and_questions_are_not_near_duplicates() -> None:
    items = load_news()
    assert wording.find_similar_pairs({i.id: i.text for i in items}, 1)[0][0] < 65
    questions = {q.id: " ".join((q.text, *sorted(q.options))) for i in items for q in i.questions}
    assert wording.find_similar_pairs(questions, 1)[0][0] < 80


def test_the_general_questions_are_many_different_and_balanced() -> None:
    questions = general.load()
    assert len(questions) >= 200
    assert len({q.text for q in questions}) == len(questions)
    for kind in ("knowledge", "arithmetic", "instructions"):
        answers = Counter(q.answer for q in questions if q.kind == kind)
        assert sorted(answers) == [0, 1, 2, 3]
        assert len(set(answers.values())) == 1
