"""On a cluster, engines run at once: two nodes of this machine, and two models that write and are asked."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import STUDY, write_news
from local_cluster import nodes
from whole import ROOT, Run, descendants, table

pytestmark = pytest.mark.slow
WRITING, SCORING = "ray::MapWorker(MapBatches(Writer))", "ray::score"


def status(study: Path) -> str:
    """What jobs/status.py says meanwhile."""
    command = [sys.executable, "jobs/status.py", str(study)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout


def test_generators_write_at_once_and_bases_are_asked_at_once(tiny: Path, tmp_path: Path) -> None:
    write_news(tmp_path)
    other = shutil.copytree(tiny, tmp_path / "tiny-other")
    changes = {'["MODEL"]': f'["{tiny}", "{other}"]', '["naive", "echo"]': '["echo"]', "[40]": "[8]"}
    study = STUDY
    for old, new in changes.items():
        study = study.replace(old, new)
    (tmp_path / "two.py").write_text(study)
    with nodes(6392, {"CPU": 1}, {"CPU": 1}) as env:
        run = Run(f"{tmp_path / 'two.py'}:study", tmp_path / "runs", tmp_path / "log.txt", env)
        for phase, title in (("self-play", WRITING), ("evaluate", SCORING)):
            run.wait_for(lambda title=title: len(descendants(os.getpid(), title)) == 2)
            run.wait_for(lambda phase=phase: f"{phase}: " in status(run.study))
        assert run.wait() == 0, run.printed()
    assert "2 trials done" in run.printed()
    assert table(run.study, "trials")["trainee"].n_unique() == 2
