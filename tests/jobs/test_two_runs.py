"""Two runs of one study that start at once: real jobs on a tiny model."""

from pathlib import Path

import pytest
from conftest import write_study
from whole import Run, draws

pytestmark = pytest.mark.slow


def test_of_two_runs_that_start_at_once_one_does_everything_and_one_is_refused(tiny: Path, tmp_path: Path) -> None:
    study, storage = write_study(tmp_path, tiny), tmp_path / "runs"
    runs = [Run(study, storage, tmp_path / name) for name in ("a.txt", "b.txt")]
    printed = {run.wait(): run.printed() for run in runs}
    assert set(printed) == {0, 2}, printed
    assert "2 trials done" in printed[0]
    [line] = printed[2].splitlines()
    assert f"{storage}/tiny: another run has had this study since" in line
    assert draws(storage / "tiny").select("item", "draw").is_unique().all()
    again = Run(study, storage, tmp_path / "again.txt")
    assert again.wait() == 0
    assert "Nothing to do" in again.printed()
    assert list(storage.glob("tiny/lock*")) == []
