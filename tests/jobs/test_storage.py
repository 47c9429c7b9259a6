"""What the jobs do with a study's storage before Ray starts: damaged files, old tables, no room, another run."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from conftest import CPU
from test_results import N_ITEMS, TRIALS, finish

from engine import results
from engine.planning import plan
from engine.storage.ledger import Ledger
from engine.storage.store import Store
from engine.study import Study

ROOT = Path(__file__).parents[2]
STUDY = f"""
from engine.study import Study, grid

def made(budgets=(2,)):
    return Study(name="made", n_items={N_ITEMS}, trials=grid(
        trainees=["smollm2-135m", "qwen2.5-0.5b"], domains=["events"], protocols=["naive", "paraphrase"],
        budgets=budgets, seeds=[0, 1], forms=("choice", "statement"),
    ))

def more():
    return made((2, 3))
"""


def run(job: str, *args: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, f"jobs/{job}.py", *map(str, args)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


def grid(folder: Path, *args: object, study: str = "made") -> "subprocess.CompletedProcess[str]":
    (folder / "my_study.py").write_text(STUDY)
    return run("grid", "--study", f"{folder / 'my_study.py'}:{study}", "--storage", folder / "runs", *args)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of which every trial is done."""
    folder = tmp_path_factory.mktemp("finished")
    ledger = Ledger(Store(f"{folder}/made"))
    for p in plan.plan(Study(name="made", trials=TRIALS, n_items=N_ITEMS), ledger, CPU):
        finish(p, ledger)
    results.collect(ledger)
    return folder / "made"


@pytest.fixture
def made(finished: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(finished, tmp_path / "runs/made")


def done_in_table(study: Path) -> set[str]:
    return set(pl.read_parquet((study / "results/trials.parquet").read_bytes())["trial"])


def test_tables_that_are_missing_or_cut_are_made_again_by_a_run_with_nothing_to_do(made: Path, tmp_path: Path) -> None:
    file = made / "results/trials.parquet"
    grid(tmp_path)  # a copy's files have any order of times
    assert "Nothing to do: all 8 trials are done." in grid(tmp_path).stdout
    for damage in (file.unlink, lambda: file.write_bytes(b"")):
        damage()
        again = grid(tmp_path)
        assert (again.returncode, again.stderr) == (0, "")
        assert "smollm2-135m" in again.stdout
        assert done_in_table(made) == {t.key for t in TRIALS}


def test_damaged_trials_are_named_before_anything_starts(made: Path, tmp_path: Path) -> None:
    cut, empty, gone = (made / "trials" / t.key for t in TRIALS[:3])
    (cut / "questions.parquet").write_bytes((cut / "questions.parquet").read_bytes()[:90])
    (empty / "trained.json").write_text("")
    (gone / "trial.json").unlink()
    shutil.rmtree(made / "results")
    files = [cut / "questions.parquet", empty / "trained.json", gone / "trial.json"]
    for args in (["--plan"], []):
        job = grid(tmp_path, *args)
        assert job.returncode == 1
        assert "Traceback" not in job.stderr
        for file in files:
            assert f"(storage): {file}: " in job.stderr
        assert job.stderr.count("FAILED") == 3
        assert job.stderr.count("remove") >= 3
    assert done_in_table(made) == {t.key for t in TRIALS[3:]}


def test_a_study_of_which_nothing_can_be_read_says_so(made: Path, tmp_path: Path) -> None:
    for file in [*made.glob("trials/*/trial.json"), *made.glob("results/*.parquet")]:
        file.write_bytes(b"")
    job = grid(tmp_path)
    assert job.returncode == 1
    assert job.stderr.count("FAILED") == len(TRIALS)
    assert "Traceback" not in job.stderr


def test_a_damaged_pool_is_named_for_each_trial_that_learned_from_it(made: Path, tmp_path: Path) -> None:
    [shard, *_] = (made / "pools").glob("*paraphrase*/draws-*.parquet")
    shard.write_bytes(b"")
    job = grid(tmp_path, "--plan")
    mine = {t.key for t in TRIALS if t.pool == shard.parent.name}
    assert {line.split()[1] for line in job.stderr.splitlines()} == mine
    assert f"{shard}: an empty file; remove it, so that its draws are made again" in job.stderr


def test_cut_tables_are_named_by_the_report(made: Path) -> None:
    (made / "results/questions.parquet").write_bytes(b"PAR1")
    job, file = run("report", made), made / "results/questions.parquet"
    assert job.returncode == 2
    assert job.stderr == f"{file}: not Parquet, 4 bytes; run jobs/grid.py, which makes it again\n"


@pytest.mark.parametrize("job", ["grid", "selfplay", "finetune", "evaluate"])
def test_a_study_that_another_run_has_is_refused_in_one_line(made: Path, tmp_path: Path, job: str) -> None:
    (tmp_path / "my_study.py").write_text(STUDY)
    with Ledger(Store(str(made))).lock():
        refused = run(job, "--study", f"{tmp_path}/my_study.py:more", "--storage", tmp_path / "runs")
    assert refused.returncode == 2, refused.stderr
    [line] = refused.stderr.splitlines()
    assert f"{made}: another run has had this study since" in line
    assert f"process {os.getpid()} on " in line
    assert not list(made.glob("lock*"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 4 MiB, as the jobs' storage."""
    disk = tmp_path / "runs"
    disk.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], check=False).returncode:
        pytest.skip("may not mount a file system here")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_too_small_a_disk_is_refused_before_anything_starts(small_disk: Path, tmp_path: Path) -> None:
    planned = grid(tmp_path, "--plan")
    assert planned.returncode == 0
    assert "storage: at least " in planned.stdout
    assert "4.0 MiB are free" in planned.stdout
    job = grid(tmp_path)
    assert job.returncode == 2
    [line] = job.stderr.splitlines()
    assert line.startswith(f"{small_disk}/made: not enough room. storage: at least ")
    assert "weights" in line
    assert [p for p in small_disk.rglob("*") if p.is_file()] == []


def test_read_only_storage_shows_what_is_done_and_refuses_more(
    small_disk: Path, tmp_path: Path, finished: Path
) -> None:
    shutil.copytree(finished, small_disk / "made")
    assert grid(tmp_path).returncode == 0
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    shown = grid(tmp_path)
    assert (shown.returncode, shown.stderr) == (0, "")
    job = grid(tmp_path, study="more")
    assert job.returncode == 2
    [line] = job.stderr.splitlines()
    assert "the file system is read-only; make it writable, or use another --storage" in line


def test_storage_with_any_name_is_a_folder(tmp_path: Path, finished: Path) -> None:
    (tmp_path / "my_study.py").write_text(STUDY)
    shutil.copytree(finished, tmp_path / "runs [1]*/made")
    shutil.rmtree(tmp_path / "runs [1]*/made/results")
    job = run("grid", "--study", f"{tmp_path}/my_study.py:made", "--storage", tmp_path / "runs [1]*")
    assert (job.returncode, job.stderr) == (0, "")
    assert done_in_table(tmp_path / "runs [1]*/made") == {t.key for t in TRIALS}
