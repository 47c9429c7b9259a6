"""On a cluster, engines run at once: two nodes of this machine, and two models that write and are asked."""

import shutil
from pathlib import Path

import psutil
import pytest
from conftest import STUDY, write_news
from local_cluster import nodes
from whole import Run, table

pytestmark = pytest.mark.slow
WRITING, SCORING = "ray::MapWorker(MapBatches(Writer))", "ray::score"


def count(title: str) -> int:
    """Of this machine's processes, how many have a title that begins so."""
    return sum(title in "".join(p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"]))


def test_generators_write_at_once_and_bases_are_asked_at_once(tiny: Path, tmp_path: Path) -> None:
    write_news(tmp_path)
    other = shutil.copytree(tiny, tmp_path / "tiny-other")
    (tmp_path / "two.py").write_text(STUDY.replace('["MODEL"]', f'["{tiny}", "{other}"]'))
    with nodes(6392, {"CPU": 1}, {"CPU": 1}) as env:
        run = Run(f"{tmp_path / 'two.py'}:study", tmp_path / "runs", tmp_path / "log.txt", env)
        run.wait_for(lambda: count(WRITING) == 2)
        run.wait_for(lambda: count(SCORING) == 2)
        assert run.wait() == 0, run.printed()
    assert "4 trials done" in run.printed()
    assert table(run.study, "trials")["trainee"].n_unique() == 2
