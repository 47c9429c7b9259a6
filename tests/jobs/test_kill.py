"""Whoever is killed, a rerun completes the study: nothing is lost, nothing is done twice."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from conftest import write_study

from engine.selfplay.parsing import CUT_OFF

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def start(study: str, storage: Path) -> "subprocess.Popen[str]":
    log = open(storage.parent / "log.txt", "a")  # noqa: SIM115
    return subprocess.Popen(
        [sys.executable, "jobs/grid.py", "--study", study, "--storage", str(storage)],
        cwd=ROOT,
        stdout=log,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=os.environ | {"RAY_DATA_EXECUTION_NO_PROGRESS_TIMEOUT_S": "1"},  # self-play may outlast it
    )


def wait_for(what: Callable[[], object], job: "subprocess.Popen[str]", seconds: float = 240) -> None:
    """Waits until it is true; fails if the job ends or takes too long before."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come about"
        assert job.poll() is None, "the job ended before"
        time.sleep(0.05)


def processes(name: str) -> list[int]:
    """Ids of the processes whose command line begins with a Ray actor's name."""
    pids = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                line = (folder / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if line.startswith(name):
                pids.append(int(folder.name))
    return pids


def kill(name: str) -> None:
    for pid in processes(name):
        os.kill(pid, signal.SIGKILL)


def draws(study: Path) -> pl.DataFrame:
    """All generations that are stored, in any shard."""
    shards = list((study / "pools").glob("*/draws-*.parquet"))
    return pl.concat([pl.read_parquet(s) for s in shards]) if shards else pl.DataFrame(schema=["item", "draw"])


def trials(study: Path) -> pl.DataFrame:
    return pl.read_parquet(study / "results/trials.parquet")


def questions(study: Path) -> pl.DataFrame:
    return pl.read_parquet(study / "results/questions.parquet")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    """The results of a run in which nothing happens."""
    folder = tmp_path_factory.mktemp("undisturbed")
    job = start(write_study(folder, tiny), folder / "runs")
    assert job.wait(timeout=400) == 0, (folder / "log.txt").read_text()
    return folder / "runs/tiny"


def same_keys_and_counts(study: Path, undisturbed: Path) -> None:
    keys = ["trial", "condition", "moment"]
    columns = [*keys, "n_items", "n_questions", "budget", "params", "params_trained"]
    assert trials(study).select(columns).sort(keys).equals(trials(undisturbed).select(columns).sort(keys))
    assert questions(study).height == questions(undisturbed).height
    made = draws(study)
    assert made.select("item", "draw").is_unique().all()
    assert made.group_by("item").len().sort("item").equals(draws(undisturbed).group_by("item").len().sort("item"))
    steps = [pl.read_parquet(f)["step"].to_list() for f in (study / "trials").glob("*/losses.parquet")]
    assert len(steps) == 2
    assert all(s == list(range(40)) for s in steps)


def test_what_ran_into_the_limit_of_tokens_is_marked(undisturbed: Path) -> None:
    assert draws(undisturbed)["completions"].explode().str.ends_with(CUT_OFF).any()


def test_the_rerun_after_a_killed_driver_finishes_what_is_missing(
    undisturbed: Path, tmp_path: Path, tiny: Path
) -> None:
    study, runs = write_study(tmp_path, tiny), tmp_path / "runs"
    job = start(study, runs)
    wait_for(lambda: list((runs / "tiny/trials").glob("*/train/checkpoint_*")), job)
    before = draws(runs / "tiny")
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    rerun = start(study, runs)
    assert rerun.wait(timeout=400) == 0, (tmp_path / "log.txt").read_text()
    same_keys_and_counts(runs / "tiny", undisturbed)
    assert draws(runs / "tiny").sort("item", "draw").equals(before.sort("item", "draw"))


def test_a_killed_vllm_actor_and_a_killed_train_worker_are_replaced(
    undisturbed: Path, tmp_path: Path, tiny: Path
) -> None:
    study, runs = write_study(tmp_path, tiny), tmp_path / "runs"
    job = start(study, runs)
    wait_for(lambda: draws(runs / "tiny").height, job)
    written = draws(runs / "tiny")
    assert written.height < 80
    kill("ray::MapWorker(MapBatches(Writer))")
    wait_for(lambda: list((runs / "tiny/trials").glob("*/train/checkpoint_*")), job)
    kill("ray::RayTrainWorker")
    assert job.wait(timeout=400) == 0, (tmp_path / "log.txt").read_text()
    same_keys_and_counts(runs / "tiny", undisturbed)
    kept = draws(runs / "tiny").join(written.select("item", "draw"), on=["item", "draw"], how="semi")
    assert kept.sort("item", "draw").equals(written.sort("item", "draw"))
