"""The check that needs a GPU: what it says where there is none, and how its table comes about."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def gpu_check(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "jobs"))
    import gpu_check

    return gpu_check


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine has a GPU")
@pytest.mark.parametrize("command", [["make", "gpu-check"], [sys.executable, "jobs/gpu_check.py"]])
def test_a_machine_without_a_gpu_is_told_so_at_once(command: list[str]) -> None:
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert said.returncode == 2
    assert "this machine has no" in said.stdout + said.stderr
    assert "Traceback" not in said.stderr


def test_a_part_that_fails_is_a_line_and_the_others_go_on(
    gpu_check: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    left = {"measures": [{"what": "of an earlier check", "value": 1.0, "verdict": ""}]}
    (tmp_path / "finetune.json").write_text(json.dumps(left))

    def run(command: list[str], minutes: int, log: Path) -> str:
        if "finetune" in command:
            return "exit status 2: trl is not installed, see finetune.txt"
        measures = [
            {"what": "ratio | speed", "value": 1.23456, "goal": 1.0, "at_most": False, "verdict": "reached"},
            {"what": "difference", "value": 0.5, "goal": 0.1, "at_most": True, "verdict": "MISSED"},
        ]
        log.with_suffix(".json").write_text(json.dumps({"measures": measures}))
        return "exit status 1: , see parity.txt"

    monkeypatch.setattr(gpu_check, "run", run)
    monkeypatch.setattr(gpu_check, "gpu_memories", lambda: [79.6])
    monkeypatch.setattr(gpu_check, "device_name", lambda device: "NVIDIA H100")
    monkeypatch.setattr("sys.argv", ["gpu_check.py", "--parts", "parity", "finetune", "--out", str(tmp_path)])
    assert gpu_check.main() == 1
    table = (tmp_path / "table.md").read_text()
    assert table in capsys.readouterr().out
    assert "**1 × NVIDIA H100, 80 GiB each**" in table
    assert "| parity | ratio / speed | 1.23 | reached |" in table
    assert "| parity | difference | 0.5 | MISSED |" in table
    assert "earlier" not in table
    assert "| finetune | exit status 2: trl is not installed, see finetune.txt |  | FAILED |" in table


def test_a_part_that_does_not_end_is_ended(gpu_check: Any, tmp_path: Path) -> None:
    assert gpu_check.run(["-c", "import time; time.sleep(60)"], 0.02, tmp_path / "x.txt").startswith("not done after")
    assert "exit status 3: so it is" in gpu_check.run(["-c", "print('so it is'); exit(3)"], 1, tmp_path / "y.txt")
