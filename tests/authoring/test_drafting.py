"""Drafts of questions: what is kept of a model's messy output, and that nobody takes a draft for a question."""

import json
import string
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import ITEMS
from hypothesis import given
from hypothesis import strategies as st

from engine.authoring import drafting
from engine.cluster.machines import Machine
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
def test_a_question_is_read_in_the_forms_that_models_write(text: str) -> None:
    kept, dropped = drafting.parse_questions(text, "")
    options = ["80 crowns", "70 crowns", "60 crowns", "50 crowns"]
    asked = "What does the ferry of Lindvik cost in 2029?"
    assert kept == [{"text": asked, "options": options, "answer": "70 crowns", "draft": True}]
    assert not dropped


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (BLOCK.format(answer="E"), "no right option named"),
        (BLOCK.format(answer="B").replace("D) 50 crowns\n", ""), "not four different options"),
        (BLOCK.format(answer="B").replace("50", "60"), "not four different options"),
        (BLOCK.format(answer="B").replace("in 2029", "according to the text"), "refers to the text"),
    ],
)
def test_what_is_no_good_is_counted_and_the_rest_is_kept(text: str, why: str) -> None:
    other = BLOCK.format(answer="A").replace("ferry of Lindvik", "museum of Tarsund")
    kept, dropped = drafting.parse_questions(text + "\n" + other, "")
    assert [q["answer"] for q in kept] == ["80 crowns"]
    assert dropped == {why: 1}


names = st.text(string.ascii_lowercase, min_size=4, max_size=9)


@given(st.lists(st.tuples(names, st.lists(names, min_size=4, max_size=4, unique=True), st.integers(0, 3)), max_size=4))
def test_whatever_is_written_in_the_form_comes_back(questions: list[tuple[str, list[str], int]]) -> None:
    text = "\n".join(
        f"Question: How many boats has the harbour {name} now?\n"
        + "".join(f"{letter}) {option}\n" for letter, option in zip("ABCD", options, strict=True))
        + f"Answer: {'ABCD'[right]}\n"
        for name, options, right in questions
    )
    kept, dropped = drafting.parse_questions(text, "")
    assert [(q["options"], q["answer"]) for q in kept] == [(o, o[right]) for _, o, right in questions]
    assert not dropped


@given(st.text())
def test_no_text_breaks_the_parser(text: str) -> None:
    drafting.parse_questions(text, "")


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    return path


def test_a_study_with_drafts_is_refused_with_file_and_line(tmp_path: Path) -> None:
    drafts = [item | {"questions": [q | {"draft": True} for q in item["questions"]]} for item in ITEMS]
    news = write(tmp_path / "drafts.jsonl", drafts)
    assert load_news(news)[0].questions[0].draft
    study = replace(shipped.quickstart(), news=str(news))
    machine = Machine(device="cpu", n_cpus=2, n_gpus=0, device_gib=8)
    with pytest.raises(plan.Refused, match=f"{news}:1: .*q1 is a draft"):
        plan.plan(study, Ledger(Store(str(tmp_path / "runs"))), machine)


def job(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "jobs/write_questions.py", *arguments], capture_output=True, text=True, check=False
    )


def test_drafting_tells_what_is_wrong_before_anything_starts(tmp_path: Path) -> None:
    bare = [{k: v for k, v in item.items() if k != "questions"} for item in ITEMS]
    news, out = write(tmp_path / "bare.jsonl", bare), tmp_path / "out.jsonl"
    unknown = job(str(news), "--out", str(out), "--model", "no-such-model")
    assert unknown.returncode == 2
    assert "no-such-model" in unknown.stderr
    broken = job(str(write(tmp_path / "broken.jsonl", [{"id": "a"}])), "--out", str(out))
    assert f"{tmp_path / 'broken.jsonl'}:1: missing field: 'domain'" in broken.stderr
    out.write_text("checked by hand")
    assert "exists" in job(str(news), "--out", str(out)).stderr
    assert out.read_text() == "checked by hand"


@pytest.mark.slow
def test_what_a_model_that_writes_no_questions_yields_is_told(tmp_path: Path, tiny: Path) -> None:
    bare = [{k: v for k, v in item.items() if k != "questions"} for item in ITEMS]
    news, out = write(tmp_path / "bare.jsonl", bare), tmp_path / "out.jsonl"
    run = job(str(news), "--out", str(out), "--model", str(tiny), "--questions", "2")
    assert run.returncode == 1, run.stderr
    assert run.stderr.count("TOO FEW") == len(ITEMS)
    assert [json.loads(line)["questions"] for line in out.read_text().splitlines()] == [[]] * len(ITEMS)
