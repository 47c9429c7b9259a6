"""Two runs of one study at once, and a disk that becomes full while a run works: real jobs on a tiny model."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from conftest import write_study

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
MIB = 2**20


def start(study: str, storage: Path, log: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "jobs/grid.py", "--study", study, "--storage", str(storage)]
    with log.open("w") as out:
        return subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out, start_new_session=True)


def draws(study: Path) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(shard) for shard in study.glob("pools/*/draws-*.parquet")])


def test_of_two_runs_that_start_at_once_one_does_everything_and_one_is_refused(tiny: Path, tmp_path: Path) -> None:
    study, logs = write_study(tmp_path, tiny), [tmp_path / "a.txt", tmp_path / "b.txt"]
    runs = [start(study, tmp_path / "runs", log) for log in logs]
    codes = {run.wait(timeout=400): log.read_text() for run, log in zip(runs, logs, strict=True)}
    assert set(codes) == {0, 2}, codes
    assert "2 trials done" in codes[0]
    [line] = codes[2].splitlines()
    assert f"{tmp_path}/runs/tiny: another run has had this study since" in line
    assert draws(tmp_path / "runs/tiny").select("item", "draw").is_unique().all()
    again = start(study, tmp_path / "runs", logs[0])
    assert again.wait(timeout=100) == 0
    assert "Nothing to do" in logs[0].read_text()
    assert list((tmp_path / "runs/tiny").glob("lock*")) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 64 MiB."""
    disk = tmp_path / "runs"
    disk.mkdir()
    if (
        os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", disk], check=False).returncode
    ):
        pytest.skip("may not mount a file system here")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.parametrize("phase", ["self-play", "fine-tune", "evaluate"])
def test_a_disk_that_becomes_full_is_said_in_a_line_and_a_rerun_with_room_completes(
    small_disk: Path, tmp_path: Path, tiny: Path, phase: str
) -> None:
    study, log = write_study(tmp_path, tiny), tmp_path / "log.txt"
    run = start(study, small_disk, log)
    ends = time.monotonic() + 240
    while phase not in log.read_text():
        assert run.poll() is None, log.read_text()
        assert time.monotonic() < ends
        time.sleep(0.02)
    fill(small_disk / "filler")
    code = run.wait(timeout=400)
    said = log.read_text()
    assert code == 2, said
    assert f"{small_disk}/tiny/" in said.splitlines()[-1], said
    assert "no space is left; free some, or use another --storage" in said.splitlines()[-1]
    assert "jobs/grid.py" not in said  # Ray Tune logs errors of its own; ours is no traceback
    assert list(small_disk.rglob("*.part")) == []
    (small_disk / "filler").unlink()
    rerun = start(study, small_disk, log)
    assert rerun.wait(timeout=400) == 0, log.read_text()
    assert draws(small_disk / "tiny").select("item", "draw").is_unique().all()
    assert pl.read_parquet(small_disk / "tiny/results/trials.parquet")["trial"].n_unique() == 2


def fill(file: Path) -> None:
    """Takes all room that is left, to the last byte."""
    with file.open("wb", buffering=0) as out:
        for size in (MIB, 4096, 1):
            try:
                while True:
                    out.write(bytes(size))
            except OSError:
                continue
