"""Drafts of questions: what the parser keeps of a messy completion, and that a study with drafts is refused."""

import json
import string
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import CPU, ITEMS
from hypothesis import given
from hypothesis import strategies as st

from engine.authoring import drafting
from engine.news.items import load_news
from engine.planning import plan, shipped
from engine.storage.ledger import Ledger
from engine.storage.store import Store

BLOCK = """Question: What does the ferry of Lindvik cost in 2029?
A) 80 crowns
B) 70 crowns
C) 60 crowns
D) 50 crowns
Answer: {answer}
"""


@pytest.mark.parametrize(
    "text",
    [
        BLOCK.format(answer="B"),
        "Sure! Here it is:\n\n" + BLOCK.format(answer="B) 70 crowns"),
        "**Question 1:** What does the ferry of Lindvik cost in 2029?\n\n- A. 80 crowns\n- B. 70 crowns\n"
        "- C. 60 crowns\n- D. 50 crowns\n\n**Correct answer: B**",
        "1. What does the ferry of Lindvik cost in 2029?\n   a\n   A) 80 crowns\n   B) 70 crowns\n   C) 60 crowns\n"
        "   D) 50 crowns\n   Answer: B",
    ],
)
def test_questions_in_different_layouts_are_parsed(text: str) -> None:
    questions, dropped = drafting.parse_questions(text, "")
    options = ["80 crowns", "70 crowns", "60 crowns", "50 crowns"]
    wording = "What does the ferry of Lindvik cost in 2029?"
    assert questions == [{"text": wording, "options": options, "answer": "70 crowns", "draft": True}]
    assert not dropped


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BLOCK.format(answer="E"), "no right option named"),
        (BLOCK.format(answer="B").replace("D) 50 crowns\n", ""), "not four different options"),
        (BLOCK.format(answer="B").replace("50", "60"), "not four different options"),
        (BLOCK.format(answer="B").replace("in 2029", "according to the text"), "refers to the text"),
    ],
)
def test_a_bad_question_is_counted_and_the_next_one_is_kept(text: str, reason: str) -> None:
    other = BLOCK.format(answer="A").replace("ferry of Lindvik", "museum of Tarsund")
    questions, dropped = drafting.parse_questions(text + "\n" + other, "")
    assert [q["answer"] for q in questions] == ["80 crowns"]
    assert dropped == {reason: 1}


names = st.text(string.ascii_lowercase, min_size=4, max_size=9)
options_of_one = st.lists(names, min_size=4, max_size=4, unique=True)
# Defects of a question, and the reason that the parser then counts.
REASONS = {
    "no defect": None,
    "option missing": "not four different options",
    "options equal": "not four different options",
    "answer missing": "no right option named",
    "answer unknown": "no right option named",
    "speaks of the text": "refers to the text",
}


def write_block(options: list[str], answer: int, defect: str) -> str:
    """Writes one question in the layout that the prompt asks for, with a defect."""
    subject = "the text" if defect == "speaks of the text" else "Lindvik"
    texts = [options[0].upper(), options[0], *options[2:]] if defect == "options equal" else options
    lines = [f"{letter}) {text}" for letter, text in zip("ABCD", texts, strict=True)]
    letter = "E" if defect == "answer unknown" else "ABCD"[answer]
    lines = lines[:3] if defect == "option missing" else lines
    lines += [] if defect == "answer missing" else [f"Answer: {letter}"]
    return "\n".join([f"Question: How many boats are there in {subject}?", *lines])


@given(
    st.lists(st.tuples(options_of_one, st.integers(0, 3), st.sampled_from(sorted(REASONS))), max_size=5),
    st.sampled_from(["\n", "\n\n", "\n\nHere is another question:\n\n"]),
)
def test_good_questions_are_kept_in_order_and_bad_ones_counted(
    blocks: list[tuple[list[str], int, str]], separator: str
) -> None:
    completion = separator.join(["Sure!", *(write_block(*block) for block in blocks)])
    questions, dropped = drafting.parse_questions(completion, "")
    good = [(options, options[answer]) for options, answer, defect in blocks if not REASONS[defect]]
    assert [(q["options"], q["answer"]) for q in questions] == good
    assert dropped == Counter(filter(None, (REASONS[defect] for _, _, defect in blocks)))


def test_of_near_duplicate_questions_the_first_is_kept() -> None:
    texts = [
        "What does the ferry of Lindvik cost in summer?",
        "When does the museum of Tarsund open?",
        "What does the ferry of Lindvik cost in summer now?",
    ]
    questions = [{"text": text} for text in texts]
    assert drafting.drop_near_duplicates(questions) == questions[:2]


def write_news(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    return path


def test_a_study_with_drafts_is_refused_with_file_and_line(tmp_path: Path) -> None:
    drafts = [item | {"questions": [q | {"draft": True} for q in item["questions"]]} for item in ITEMS]
    news = write_news(tmp_path / "drafts.jsonl", drafts)
    assert load_news(news)[0].questions[0].draft
    study = replace(shipped.quickstart(), news=str(news))
    with pytest.raises(plan.Refused, match=f"{news}:1: .*q1 is a draft"):
        plan.plan(study, Ledger(Store(str(tmp_path / "runs"))), CPU)


def run_job(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "jobs/write_questions.py", *arguments], capture_output=True, text=True, check=False
    )


def remove_questions(item: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in item.items() if k != "questions"}


def test_wrong_arguments_and_files_are_reported_before_a_model_starts(tmp_path: Path) -> None:
    news, out = write_news(tmp_path / "news.jsonl", list(map(remove_questions, ITEMS))), tmp_path / "out.jsonl"
    unknown = run_job(str(news), "--out", str(out), "--model", "no-such-model")
    assert unknown.returncode == 2
    assert "no-such-model" in unknown.stderr
    broken = run_job(str(write_news(tmp_path / "broken.jsonl", [{"id": "a"}])), "--out", str(out))
    assert broken.returncode == 2
    assert f"{tmp_path / 'broken.jsonl'}:1: missing field: 'domain'" in broken.stderr
    out.write_text("checked by a person")
    existing = run_job(str(news), "--out", str(out))
    assert existing.returncode == 2
    assert "exists" in existing.stderr
    assert out.read_text() == "checked by a person"


@pytest.mark.slow
def test_items_with_too_few_drafts_are_reported_and_existing_questions_stay(tmp_path: Path, tiny: Path) -> None:
    complete, incomplete = ITEMS
    news = write_news(tmp_path / "news.jsonl", [complete, remove_questions(incomplete)])
    out = tmp_path / "out.jsonl"
    run = run_job(str(news), "--out", str(out), "--model", str(tiny), "--questions", "2")
    assert run.returncode == 1, run.stderr
    reports = [line for line in run.stderr.splitlines() if "TOO FEW DRAFTS" in line]
    assert reports == [f"TOO FEW DRAFTS {incomplete['id']}: 0 of 2"]
    assert [json.loads(line) for line in out.read_text().splitlines()] == [complete, incomplete | {"questions": []}]
