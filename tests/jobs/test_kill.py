"""A killed vLLM actor and a killed train worker are replaced while the run goes on."""

import os
import signal
from pathlib import Path

import pytest
from conftest import write_study
from whole import Run, draws, same_keys_and_counts

from engine.selfplay.parsing import CUT_OFF

pytestmark = pytest.mark.slow


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


def test_what_ran_into_the_limit_of_tokens_is_marked(undisturbed: Path) -> None:
    assert draws(undisturbed)["completions"].explode().str.ends_with(CUT_OFF).any()


def test_a_killed_vllm_actor_and_a_killed_train_worker_are_replaced(
    undisturbed: Path, tmp_path: Path, tiny: Path
) -> None:
    run = Run(write_study(tmp_path, tiny), tmp_path / "runs", tmp_path / "log.txt")
    run.wait_for(lambda: draws(run.study).height)
    written = draws(run.study)
    assert written.height < 80
    kill("ray::MapWorker(MapBatches(Writer))")
    run.wait_for(lambda: list(run.study.glob("trials/*/checkpoints/last.json")))
    kill("ray::RayTrainWorker")
    assert run.wait() == 0, run.printed()
    same_keys_and_counts(run.study, undisturbed)
    kept = draws(run.study).join(written.select("item", "draw"), on=["item", "draw"], how="semi")
    assert kept.sort("item", "draw").equals(written.sort("item", "draw"))
