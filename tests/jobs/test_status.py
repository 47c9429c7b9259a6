"""What jobs/status.py says of a study, from its files."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import CPU
from test_results import N_ITEMS, TRIALS, finish

from engine.planning import plan
from engine.storage.ledger import Ledger
from engine.storage.records import Failure, Progress, Spent
from engine.storage.store import Store
from engine.study import Study

ROOT = Path(__file__).parents[2]


def status(study: Path, *args: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "jobs/status.py", str(study), *args]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Two trials are done, one has failed, the others have begun."""
    ledger = Ledger(Store(str(tmp_path / "made")))
    planned = plan.plan(Study(name="made", trials=TRIALS, n_items=N_ITEMS), ledger, CPU)
    for p in planned:
        ledger.begin(p, {})
    for p in planned[:2]:
        finish(p, ledger)
    ledger.fail(Failure(key=planned[2].trial.key, phase="fine-tune", reason="no memory", logs="/logs"))
    return ledger


def test_it_says_what_is_done_what_runs_where_and_what_failed(ledger: Ledger, tmp_path: Path) -> None:
    now = Progress(
        phase="fine-tune", total=8, done=2, running=1, tokens=600, work=30, all_work=120, seconds=60.0,
        at_work={"a-trial": "node7"}, at=time.time() - 7200,
    )  # fmt: skip
    ledger.put_progress(now)
    said = status(tmp_path / "made")
    assert (said.returncode, said.stderr) == (0, "")
    assert "8 trials begun: 2 done, 1 failed, 5 to do" in said.stdout
    assert "fine-tune: 2 done, 1 running, 5 left | 25 % | 10 tokens/s | about 3 min left" in said.stdout
    assert "seen 2 h ago: its run may have died" in said.stdout
    assert "  node7: a-trial" in said.stdout
    assert "(fine-tune): no memory" in said.stdout
    assert "    logs: /logs" in said.stdout
    assert "NVIDIA H100" in said.stdout
    assert "estimated, with starts" in said.stdout  # they are not in what a training took


def test_following_ends_when_all_is_done_and_a_folder_without_a_study_is_named(ledger: Ledger, tmp_path: Path) -> None:
    for p in plan.plan(Study(name="made", trials=TRIALS, n_items=N_ITEMS), ledger, CPU):
        finish(p, ledger)
    done = status(tmp_path / "made", "--follow")
    assert "8 trials begun: 8 done" in done.stdout
    assert "No phase runs." in done.stdout
    nowhere = status(tmp_path / "nowhere")
    assert nowhere.returncode == 2
    assert nowhere.stderr.startswith(f"{tmp_path}/nowhere: no trial was begun there")


PRICES = "as_of: 2026-11-26\ncurrency: EUR\nhourly:\n  p5.48xlarge: {on_demand: 50.0, spot: 20.0}\n"


def test_money_so_far_is_that_of_all_nodes_that_were_up(ledger: Ledger, tmp_path: Path) -> None:
    ledger.put_spent(Spent(node_hours={"8 × H100": 1.5, "CPUs": 2.0}))
    (tmp_path / "mine.yaml").write_text(PRICES)
    said = status(tmp_path / "made", "--cluster", "clusters/aws.yaml", "--prices", str(tmp_path / "mine.yaml"))
    assert said.returncode == 0, said.stderr
    rows = {line.split("│")[1].strip(): line for line in said.stdout.splitlines() if line.count("│") > 3}
    assert [cell.strip() for cell in rows["8 × H100"].split("│")[2:5]] == ["1.5", "30.00", "75.00"]
    assert "no price" in rows["CPUs"]
    assert [cell.strip() for cell in rows["all that has a price"].split("│")[3:5]] == ["30.00", "75.00"]
    assert "8 × H100" in status(tmp_path / "made").stdout  # hours need no prices
    refused = status(tmp_path / "made", "--prices", "mine.yaml")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "add --cluster FILE" in refused.stderr
