"""The results tables, and that the report reads what the engine writes: one real table, from made answers."""

import re
from dataclasses import replace

import polars as pl
import pytest
from conftest import CPU

from engine import results
from engine.evaluation import marks
from engine.evaluation.questions import CONDITIONS, FORMS
from engine.news.items import load_news
from engine.planning import plan
from engine.selfplay import phase, pool
from engine.selfplay.pool import Draw
from engine.selfplay.protocols import Draft, Element
from engine.storage.ledger import Ledger
from engine.storage.records import Planned, Scored, Trained
from engine.storage.store import Store
from engine.study import Study, Trial, grid

N_ITEMS = 4
TRIALS = grid(
    trainees=["smollm2-135m", "qwen2.5-0.5b"],
    domains=["events"],
    protocols=["naive", "paraphrase"],
    budgets=[2],
    seeds=[0, 1],
    forms=("choice", "statement"),
)
SECONDS = 6.0


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    """The ledger of a study of which every trial is done, with answers that were made up."""
    ledger = Ledger(Store(str(tmp_path_factory.mktemp("runs") / "made")))
    planned = plan.plan(Study(name="made", trials=TRIALS, n_items=N_ITEMS), ledger, CPU)
    for p in planned:
        finish(p, ledger)
    results.collect(ledger)
    return ledger


def finish(p: Planned, ledger: Ledger) -> None:
    """Writes what the phases would have written."""
    ledger.begin(p, {"python": "3.11", "ray": "2.60"})
    draws = [draw(item.id, n) for item in p.items for n in range(5)]
    if p.trial.protocol != "naive" and not ledger.draws(p.trial.pool).height:
        ledger.add_draws(p.trial.pool, pool.draws_table(draws))
    phase.keep_elements(p.trial.pool, [p], ledger)
    ledger.mark_trained(p.trial.key, pl.DataFrame({"step": [0]}), trained())
    if not ledger.has_untrained(p.identity):
        ledger.mark_untrained(p, answers(p, right_every=4))
    scored = Scored(accuracy_closed_book=0.5, accuracy_icl=0.5, evaluate_seconds=SECONDS, tensor_parallel=2)
    ledger.mark_done(p.trial.key, answers(p, right_every=2), scored)


def draw(item: str, n: int) -> Draw:
    texts = ("ferry", "violin", "comet", "bakery", "orchid")
    element = Element(user="What is the news?", assistant=f"The {texts[n]} of the harbour opens early in {2027 + n}.")
    return Draw(item=item, number=n, draft=Draft(elements=[element]), completions=["x"], prompt_tokens=10, new_tokens=3)


def trained() -> Trained:
    return Trained(
        train_tokens=100,
        unique_tokens=50,
        train_flops=1e12,
        untrained_loss=2.5,
        train_loss=1.5,
        steps=4,
        train_seconds=8.0,
        gpu_seconds=16.0,
        device="gpu",
        device_name="NVIDIA H100",
        zero_stage=2,
        n_workers=2,
        weight_files={},
    )


def answers(p: Planned, right_every: int) -> pl.DataFrame:
    """Rows as the forms mark them: one question in `right_every` is answered right."""
    rows = []
    for item in p.items:
        for condition in CONDITIONS:
            for form in (FORMS[name] for name in p.trial.forms):
                for n, subject in enumerate(form.subjects(item)):
                    wanted = getattr(subject, "answer", 0)
                    options = len(subject.options) if form.name == "choice" else 2
                    chosen = wanted if n % right_every == 0 else (wanted + 1) % options
                    given = [[-0.1 if i == chosen else -60.0] for i in range(options)]
                    about = {"item": item.id, "question": subject.id, "kind": getattr(subject, "kind", None)}
                    rows.append(about | {"form": form.name, "condition": condition} | form.mark(subject, given))
    return marks.table(rows)


def table(ledger: Ledger, name: str) -> pl.DataFrame:
    return pl.read_parquet(ledger.result_files()[f"{name}.parquet"])


def test_the_columns_are_those_that_the_documentation_names(ledger: Ledger) -> None:
    text = (results.__doc__ or "").partition("`results/questions.parquet`")[0]
    described = " ".join(re.split(r"  +", line.strip())[0] for line in text.splitlines() if line.startswith("    "))
    assert set(re.findall(r"[a-z_]+", described)) == set(table(ledger, "trials").columns)


def test_a_trial_says_what_it_was_where_it_ran_and_what_it_cost(ledger: Ledger) -> None:
    [row] = (
        table(ledger, "trials")
        .filter(trainee="smollm2-135m", protocol="paraphrase", seed=1, condition="icl", moment="after")
        .to_dicts()
    )
    expected = {
        "pool_seed": 1,
        "learning_rate": 1e-3,
        "lora_rank": 16,
        "method": "lora",
        "label": None,
        "device_name": "NVIDIA H100",
        "n_workers": 2,
        "zero_stage": 2,
        "tensor_parallel": 2,
        "versions": "python 3.11 ray 2.60",
        "evaluate_seconds": SECONDS,
        "n_items": N_ITEMS,
        "params": 134_515_008,
        "selfplay_tokens": 2 * 3 * N_ITEMS,  # two draws per item were needed, of five that the pool has
        "accuracy_letter": None,
    }
    assert {name: row[name] for name in expected} == expected
    questions = [n for i in load_news() if i.domain == "events" for n in range(len(i.questions))][: 5 * N_ITEMS]
    assert row["accuracy"] == pytest.approx(sum(n % 2 == 0 for n in questions) / len(questions))
    assert row["accuracy_statement"] == 0.5


def test_questions_say_what_they_need(ledger: Ledger) -> None:
    kinds = {q.id: q.kind for i in load_news() for q in i.questions}
    asked = table(ledger, "questions").filter(form="choice")
    assert asked.height == len(TRIALS) * 2 * 2 * 5 * N_ITEMS
    assert all(kinds[q] == kind for q, kind in asked.select("question", "kind").iter_rows())


@pytest.mark.slow
def test_the_report_reads_what_the_engine_writes(ledger: Ledger) -> None:
    from analysis.report import page

    trials, questions = table(ledger, "trials"), table(ledger, "questions")
    files = ledger.result_files()
    source = page.Source(study="made", files=files, trials=trials, questions=questions, unfinished=[])
    text = page.html(source, lambda line: None)
    # Of the five questions of an item, two are right before training and three after it, in both conditions.
    assert "smollm2-135m −20.0 points; qwen2.5-0.5b −20.0 points" in text
    assert "4 news items (events)" in text


def test_a_pool_of_its_own_shows_the_variance_of_generation(ledger: Ledger) -> None:
    seeds = table(ledger, "trials").group_by("seed").agg(pl.col("pool_seed").unique())
    assert dict(seeds.iter_rows()) == {0: [0], 1: [1]}
    shared: Trial = replace(TRIALS[-1], pool_seed=0)
    assert shared.pool == replace(shared, seed=5).pool
