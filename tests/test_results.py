"""The results tables, and that the report reads what the engine writes: one real table, from made answers."""

import os
import re
import shutil
import time
from dataclasses import replace
from pathlib import Path
from random import Random

import polars as pl
import pytest
from conftest import CPU

from engine import results
from engine.evaluation import marks
from engine.evaluation.questions import CONDITIONS, FORMS
from engine.models import catalogue
from engine.news.items import load_news
from engine.planning import plan
from engine.selfplay import phase, pool, protocols
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
SCORED = Scored(accuracy_closed_book=0.5, accuracy_icl=0.5, evaluate_seconds=SECONDS, tensor_parallel=2)


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    """The ledger of a study of which every trial is done, with answers that were made up."""
    ledger = Ledger(Store(str(tmp_path_factory.mktemp("runs") / "made")))
    for p in plan_made(ledger):
        finish(p, ledger)
    results.collect(ledger)
    return ledger


def plan_made(ledger: Ledger) -> list[Planned]:
    return plan.plan(Study(name="made", trials=TRIALS, n_items=N_ITEMS), ledger, CPU)


def finish(p: Planned, ledger: Ledger, right_every: int = 2) -> None:
    """Writes what the phases would have written."""
    ledger.begin(p, {"python": "3.11", "ray": "2.60"})
    ledger.claim_pool(p.trial.pool, p.identity["pool"])
    draws = [draw(item.id, n) for item in p.items for n in range(5)]
    if p.trial.protocol != "naive" and not ledger.draws(p.trial.pool).height:
        ledger.add_draws(p.trial.pool, pool.draws_table(draws))
    phase.keep_elements(p.trial.pool, [p], ledger)
    ledger.mark_trained(p.trial.key, pl.DataFrame({"step": [0]}), trained())
    if not ledger.has_untrained(p.identity):
        ledger.mark_untrained(p, answers(p, right_every=4))
    ledger.mark_done(p.trial.key, answers(p, right_every), SCORED)


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


# ---- made again when they are not what the trials say ----------------------------------------------------------------


@pytest.fixture
def copied(ledger: Ledger, tmp_path: Path) -> Ledger:
    """A copy of the study that a test may damage."""
    shutil.copytree(ledger.store.root, tmp_path / "made")
    results.collect(copy := Ledger(Store(str(tmp_path / "made"))))
    return copy


def path_in(ledger: Ledger, path: str) -> Path:
    return Path(ledger.store.address(path))


def test_tables_of_all_trials_that_are_done_are_current(copied: Ledger) -> None:
    assert results.is_current(copied)
    assert not results.collect(copied)


@pytest.mark.parametrize("name", ["trials", "questions"])
@pytest.mark.parametrize("content", [None, b"", b"PAR1 and so on"])
def test_tables_that_are_missing_or_cut_are_made_again(copied: Ledger, name: str, content: bytes | None) -> None:
    before, file = copied.results(), path_in(copied, f"results/{name}.parquet")
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    assert not results.is_current(copied)
    assert not results.collect(copied)
    assert all(a.equals(b) for a, b in zip(before, copied.results(), strict=True))
    assert results.is_current(copied)


def test_tables_older_than_a_trial_are_made_again(copied: Ledger) -> None:
    later = time.time() + 60
    os.utime(path_in(copied, f"trials/{TRIALS[0].key}/result.json"), (later, later))
    assert not results.is_current(copied)


def test_tables_with_a_trial_that_is_gone_are_made_again(copied: Ledger) -> None:
    shutil.rmtree(path_in(copied, f"trials/{TRIALS[0].key}"))
    assert not results.is_current(copied)
    results.collect(copied)
    assert TRIALS[0].key not in set(table(copied, "trials")["trial"])
    assert results.is_current(copied)


@pytest.mark.parametrize("file", ["trial.json", "trained.json", "result.json", "questions.parquet"])
@pytest.mark.parametrize("content", [None, b"", b'{"PAR1": '])
def test_one_damaged_trial_is_named_and_the_others_are_written(
    copied: Ledger, file: str, content: bytes | None
) -> None:
    bad = path_in(copied, f"trials/{TRIALS[0].key}/{file}")
    if content is None and file == "result.json":
        pytest.skip("it is not done then")
    bad.write_bytes(content or b"")
    if content is None:
        bad.unlink()
    [failure] = results.collect(copied)
    assert (failure.key, failure.phase) == (TRIALS[0].key, "storage")
    assert f"{bad}: " in failure.reason
    assert "; remove " in failure.reason
    assert set(table(copied, "trials")["trial"]) == {t.key for t in TRIALS[1:]}
    assert set(table(copied, "questions")["trial"]) == {t.key for t in TRIALS[1:]}


def test_a_table_of_other_columns_is_that_of_another_version(copied: Ledger) -> None:
    pl.DataFrame({"x": [1]}).write_parquet(path_in(copied, f"trials/{TRIALS[0].key}/questions.parquet"))
    [failure] = results.collect(copied)
    assert "another version of Engram" in failure.reason
    assert table(copied, "trials")["trial"].n_unique() == len(TRIALS) - 1


def test_a_copy_that_a_person_made_is_not_in_the_tables(copied: Ledger) -> None:
    folder = path_in(copied, f"trials/{TRIALS[0].key}")
    shutil.copytree(folder, folder.with_name(f"{folder.name}-backup"))
    assert results.is_current(copied)
    assert not results.collect(copied)
    assert set(table(copied, "trials")["trial"]) == {t.key for t in TRIALS}


def test_trials_of_a_protocol_that_is_gone_keep_their_rows(copied: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    before = table(copied, "trials")
    copied.store.remove("results")
    monkeypatch.delitem(protocols.PROTOCOLS, "paraphrase")
    assert not results.collect(copied)
    assert table(copied, "trials").equals(before)
    assert before.filter(protocol="paraphrase")["selfplay_tokens"].min() > 0  # type: ignore[operator]
    assert before.filter(protocol="naive")["selfplay_tokens"].max() == 0
    assert before.filter(protocol="naive")["selfplay_flops"].max() == 0


def test_a_trial_of_a_model_that_is_gone_is_left_out(copied: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(catalogue.KNOWN, "qwen2.5-0.5b")
    copied.store.remove("results")
    left_out = results.collect(copied)
    assert {f.key for f in left_out} == {t.key for t in TRIALS if t.trainee == "qwen2.5-0.5b"}
    assert all("qwen2.5-0.5b" in f.reason for f in left_out)


def test_a_trial_without_the_elements_that_it_learned_from_is_not_free_of_cost(copied: Ledger) -> None:
    path_in(copied, f"pools/{TRIALS[-1].pool}/elements.parquet").unlink()
    left_out = results.collect(copied)
    assert {f.key for f in left_out} == {t.key for t in TRIALS if t.pool == TRIALS[-1].pool}
    assert all("run jobs/selfplay.py" in f.reason for f in left_out)


# ---- collected again -------------------------------------------------------------------------------------------------


def list_read(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The trials whose files a collect reads."""
    read: list[str] = []
    real = results.read_done
    monkeypatch.setattr(results, "read_done", lambda ledger, key, shared: read.append(key) or real(ledger, key, shared))
    results.collect(ledger)
    return read


def score_again(ledger: Ledger, key: str, right_every: int) -> None:
    """Other answers, as a second evaluation would write them."""
    [p] = [p for p in plan_made(ledger) if p.trial.key == key]
    ledger.mark_done(key, answers(p, right_every), SCORED)


def test_only_what_has_changed_is_read_again(copied: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list_read(copied, monkeypatch) == []
    score_again(copied, TRIALS[2].key, right_every=3)
    assert list_read(copied, monkeypatch) == [TRIALS[2].key]


def test_a_pool_or_a_base_that_has_changed_is_read_again(copied: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    copied.add_draws(TRIALS[-1].pool, pool.draws_table([draw("another", 0)]))
    assert list_read(copied, monkeypatch) == [t.key for t in TRIALS if t.pool == TRIALS[-1].pool]
    [p, *_] = [p for p in plan_made(copied) if p.trial.trainee == "smollm2-135m"]
    copied.mark_untrained(p, answers(p, right_every=5))
    assert list_read(copied, monkeypatch) == sorted(t.key for t in TRIALS if t.trainee == "smollm2-135m")


def test_tables_that_another_release_or_person_wrote_are_made_again(
    copied: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = sorted(t.key for t in TRIALS)
    file = path_in(copied, "results/trials.parquet")
    later = time.time() + 60
    os.utime(file, (later, later))
    assert list_read(copied, monkeypatch) == everything
    assert list_read(copied, monkeypatch) == []
    monkeypatch.setattr(results, "MADE_BY", ["the next release"])
    assert list_read(copied, monkeypatch) == everything


@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_the_tables_are_those_of_a_collect_from_nothing(copied: Ledger, seed: int) -> None:
    random = Random(seed)
    for _ in range(6):
        for key in random.sample([t.key for t in TRIALS], k=random.randint(0, 3)):
            change(copied, key, random)
        left_out, tables = results.collect(copied), copied.results()
        copied.store.remove("results")
        assert results.collect(copied) == left_out
        assert all(a.equals(b) and a.schema == b.schema for a, b in zip(tables, copied.results(), strict=True))


def change(ledger: Ledger, key: str, random: Random) -> None:
    """One of the things that happen to a trial: scored again, damaged, trained and scored again, removed."""
    what = random.choice(["scored", "scored", "damaged", "no weights", "removed"])
    if what == "removed":
        ledger.store.remove(f"trials/{key}")
    elif what == "damaged":
        ledger.store.write_bytes(f"trials/{key}/questions.parquet", b"")
    elif what == "no weights":
        ledger.withdraw_training(key)
    else:
        ledger.store.remove(f"trials/{key}")
        [p] = [p for p in plan_made(ledger) if p.trial.key == key]
        finish(p, ledger, right_every=random.randint(2, 6))


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
    text = page.render(source, lambda line: None)
    # Of the five questions of an item, two are right before training and three after it, in both conditions.
    assert "smollm2-135m −20.0 points; qwen2.5-0.5b −20.0 points" in text
    assert "4 news items (events)" in text


def test_a_pool_of_its_own_shows_the_variance_of_generation(ledger: Ledger) -> None:
    seeds = table(ledger, "trials").group_by("seed").agg(pl.col("pool_seed").unique())
    assert dict(seeds.iter_rows()) == {0: [0], 1: [1]}
    shared: Trial = replace(TRIALS[-1], pool_seed=0)
    assert shared.pool == replace(shared, seed=5).pool
