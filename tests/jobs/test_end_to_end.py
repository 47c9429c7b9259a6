"""One trial with real weights, from news to results table, by the command that users type."""

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
STUDY = """
from engine.study import Sampling, Study, Training, grid

def one():
    return Study(name="one", n_items=1, trials=grid(
        trainees=["smollm2-135m"], domains=["events"], protocols=["paraphrase"], budgets=[2],
        sampling=Sampling(temperature=0.4, max_tokens=128), training=Training(epochs=6, batch_size=2),
        forms=("choice", "letter", "statement", "task"),
    ))
"""


def grid(*args: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "jobs/grid.py", *args], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.usefixtures("smollm")
def test_a_trial_runs_and_then_nothing_is_left_to_do(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(STUDY)
    args = ["--study", f"{tmp_path / 'mine.py'}:one", "--storage", str(tmp_path / "runs")]
    first = grid(*args)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "1 trials done" in first.stdout
    assert "closed-book" in first.stdout
    for word in ("Traceback", "WARN", "Warning"):
        assert word not in first.stdout + first.stderr
    check_tables(tmp_path / "runs/one")
    check_report(tmp_path / "runs/one")
    again = grid(*args)
    assert again.returncode == 0
    assert "Nothing to do" in again.stdout
    planned = grid(*args, "--plan")
    assert "speed of trials done here" in planned.stdout


def check_tables(study: Path) -> None:
    """The numbers are those of one real trial: it learned what it read."""
    trials = pl.read_parquet(study / "results/trials.parquet")
    assert set(trials["condition"]) == {"closed_book", "icl"}
    assert set(trials["moment"]) == {"before", "after"}
    assert trials["n_questions"].unique().to_list() == [5]
    assert trials["params"].unique().to_list() == [134_515_008]
    assert (trials["train_flops"] > 1e11).all()
    assert (trials["selfplay_tokens"] > 20).all()
    nll = {(r["condition"], r["moment"]): r["nll_correct"] for r in trials.iter_rows(named=True)}
    assert nll["icl", "before"] < nll["closed_book", "before"]
    assert nll["closed_book", "after"] < nll["closed_book", "before"]
    losses = pl.read_parquet(*study.glob("trials/*/losses.parquet"))
    assert losses["loss"][-1] < losses["loss"][0]
    asked = pl.read_parquet(study / "results/questions.parquet").group_by("form").len()
    assert dict(asked.iter_rows()) == {"choice": 20, "letter": 20, "statement": 16, "task": 4}
    check_shares(trials, pl.read_parquet(study / "results/questions.parquet"))
    assert trials["accuracy_general"].is_null().all()


def check_shares(trials: pl.DataFrame, questions: pl.DataFrame) -> None:
    """Each accuracy is the share of its own questions, counted here by hand."""
    columns = {"choice": "accuracy", "letter": "accuracy_letter", "statement": "accuracy_statement"}
    for row in trials.iter_rows(named=True):
        mine = questions.filter(condition=row["condition"], moment=row["moment"])
        for form, column in columns.items():
            answers = mine.filter(form=form)["correct"].to_list()
            assert row[column] == answers.count(True) / len(answers)


def check_report(study: Path) -> None:
    """The page is made from the tables as the engine wrote them."""
    job = subprocess.run(
        [sys.executable, "jobs/report.py", str(study)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert job.returncode == 0, job.stderr
    assert "smollm2-135m" in (study / "results/report.html").read_text()
