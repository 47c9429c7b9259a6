"""What only a GPU can show, as one Markdown table: are the numbers right, is the speed, does the memory fit the plan?

Each part runs apart. One that fails is a line of the table and its output a file; the others go on. Exit status: 0 if
all is well, 1 if a part failed or missed its goal, 2 on a machine without a GPU.

examples:
  make gpu-check
  python jobs/gpu_check.py --parts parity memory --out check
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from cli import exit_status

from engine import UserError
from engine.cluster.machines import device_name, gpu_memories

ROOT = Path(__file__).parents[1]
STUDY = "quickstart"
# The parts: the study, and benchmarks; minutes that each may take.
MINUTES = {"parity": 20, STUDY: 40, "selfplay": 30, "finetune": 30, "evaluate": 30, "memory": 40}
Row = tuple[str, str, str, str]  # part, what, value, verdict


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--parts", nargs="+", choices=list(MINUTES), default=list(MINUTES), metavar="PART", help=", ".join(MINUTES)
    )
    parser.add_argument(
        "--out", default="gpu-check", metavar="FOLDER", help="for what is written (default: %(default)s)"
    )
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()
    gpus = gpu_memories()
    if not gpus:
        raise UserError("this machine has no GPU that nvidia-smi knows; `make test` shows what a CPU can show")
    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    rows = [row for part in args.parts for row in run_part(part, folder)]
    title = f"{len(gpus)} × {device_name('gpu')}, {min(gpus):.0f} GiB each"
    table = render(title, rows)
    (folder / "table.md").write_text(table)
    print(f"\n{table}\nWritten: {folder / 'table.md'}")
    return int(any(verdict not in ("", "reached") for *_, verdict in rows))


def run_part(part: str, folder: Path) -> list[Row]:
    """Runs one part; the rows of what it measured, or why there are none."""
    command = ["jobs/bench", part, "--out", str(folder / f"{part}.json")]
    if part == STUDY:
        command = ["jobs/grid.py", "--study", STUDY, "--storage", str(folder / "runs")]
    print(f"{part} …", flush=True)
    (folder / f"{part}.json").unlink(missing_ok=True)  # what an earlier check left is not this one's
    shutil.rmtree(folder / "runs", ignore_errors=True)
    began, why = time.monotonic(), run(command, MINUTES[part], folder / f"{part}.txt")
    rows = read_measures(part, folder / f"{part}.json")
    if why and not any(verdict == "MISSED" for *_, verdict in rows):
        return [*rows, (part, why, "", "FAILED")]
    return [*rows, (part, "minutes in all", f"{(time.monotonic() - began) / 60:.1f}", "")]


def run(command: Sequence[str], minutes: int, log: Path) -> str:
    """Runs one of the jobs, its output into a file; why it failed, in a line, or nothing."""
    line = [sys.executable, *command]
    with log.open("w") as out:
        try:
            done = subprocess.run(line, cwd=ROOT, stdout=out, stderr=out, timeout=minutes * 60, check=False)
        except subprocess.TimeoutExpired:
            return f"not done after {minutes} min, see {log}"
    last = next(reversed(log.read_text().strip().splitlines()), "")
    return f"exit status {done.returncode}: {last}, see {log}" if done.returncode else ""


def read_measures(part: str, file: Path) -> list[Row]:
    """What a benchmark wrote; nothing if it wrote nothing."""
    if not file.is_file():
        return []
    measures = json.loads(file.read_bytes())["measures"]
    return [(part, m["what"], f"{m['value']:.3g}", m["verdict"]) for m in measures]


def render(title: str, rows: Sequence[Row]) -> str:
    """The table, with what it was measured on."""
    lines = [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows]
    return "\n".join([f"**{title}**", "", "| part | what | value | goal |", "|---|---|---|---|", *lines, ""])


if __name__ == "__main__":
    sys.exit(exit_status(main))
