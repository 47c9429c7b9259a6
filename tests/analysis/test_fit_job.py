"""`jobs/fit.py` writes one record per fit, names what it cannot use, and imports nothing of the engine."""

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from analysis.fits import examples
from analysis.fits.examples import TRUTH


def job(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "jobs/fit.py", *arguments], capture_output=True, text=True, check=False)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Two learning curves; the five largest points of each are held out."""
    points = examples.make_losses("power_offset", 0.002)
    curves = [
        pl.DataFrame(
            {
                "holes": [1.0] * 10 + [None if name == "b" else 1.0] + [1.0] * 29,
                "curve": name,
                "examples": points.variables["x"],
                "loss": points.y * factor,
                "train": [1] * 35 + [0] * 5,
            }
        )
        for name, factor in (("a", 1.0), ("b", 2.0))
    ]
    pl.concat(curves).write_csv(tmp_path / "curves.csv")
    return tmp_path / "curves.csv"


def test_the_job_writes_one_record_per_group_and_law(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "fit.json"
    arguments = [str(table), "--law", "power,power_offset", "--x", "x=examples", "--y", "loss", "--group", "curve"]
    run = job(*arguments, "--split", "train", "--bootstrap", "50", "--out", str(out))
    assert run.returncode == 0, run.stderr
    output = json.loads(out.read_text())
    assert [(f["group"]["curve"], f["law"]) for f in output["fits"]] == [
        (curve, law) for curve in "ab" for law in ("power", "power_offset")
    ]
    best = output["fits"][1]
    assert best["parameters"] == pytest.approx(TRUTH["power_offset"], rel=0.05)
    assert best["log_rmse_heldout"] < 0.01
    assert best["objective"]["name"] == "huber:1e-3:log"
    assert (best["n_fit"], best["n_heldout"]) == (35, 5)
    low, high = best["intervals"]["c"]["percentile"]
    assert low < TRUTH["power_offset"]["c"] < high
    assert high - low < 0.05


def test_coverage_is_the_share_of_held_out_points_within_their_interval(table: Path, tmp_path: Path) -> None:
    """Of the five points that are held out, two are moved far out of their intervals."""
    loss = pl.when(pl.col("examples") > 7e5).then(2 * pl.col("loss")).otherwise("loss")
    pl.read_csv(table).with_columns(loss=loss).write_csv(table)
    arguments = [str(table), "--law", "power_offset", "--x", "x=examples", "--y", "loss", "--where", "curve = 'a'"]
    run = job(*arguments, "--split", "train", "--bootstrap", "100", "--out", str(tmp_path / "fit.json"))
    assert run.returncode == 0, run.stderr
    [record] = json.loads((tmp_path / "fit.json").read_text())["fits"]
    assert record["n_heldout"] == 5
    assert record["coverage_90"] == pytest.approx(3 / 5)


def test_groups_fitted_in_parallel_are_the_same(table: Path, tmp_path: Path) -> None:
    arguments = [str(table), "--law", "power_offset", "--x", "x=examples", "--y", "loss", "--group", "curve"]
    records = []
    for jobs in ("1", "2"):
        out = tmp_path / f"fit{jobs}.json"
        run = job(*arguments, "--jobs", jobs, "--out", str(out))
        assert run.returncode == 0, run.stderr
        records.append(json.loads(out.read_text())["fits"])
    assert records[0] == records[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--y": "losses"}, "no column 'losses'; the table has: holes, curve, examples, loss, train"),
        ({"--y": "curve"}, "column 'curve' of the table contains String, not numbers"),
        ({"--x": "x"}, "write VARIABLE=COLUMN"),
        ({"--x": "N=examples"}, "--law power needs --x x=COLUMN"),
        ({"--law": "powre"}, "unknown law 'powre'; known: additive, "),
        ({"--objective": "huber"}, "unknown objective 'huber'"),
        ({"--where": "loss > 100"}, "no rows are left"),
        ({"--where": "loss >"}, "--where 'loss >'"),
        ({"--out": "/nowhere/fit.json"}, "there is no folder /nowhere; make it first"),
        ({"--x": "x=examples", "--law": "power", "--y": "holes"}, "column 'holes' of the table is no number in row 51"),
        ({"--bootstrap": "-5"}, "--bootstrap -5: at least 0"),
        ({"--law": "auto", "--x": "b=examples"}, "'b' is a parameter of the law power: give the variable another name"),
        ({"--split": "examples"}, "must contain only 1 (fit) and 0 (held out)"),
    ],
)
def test_bad_input_is_named_with_status_2(table: Path, tmp_path: Path, change: dict[str, str], message: str) -> None:
    options = {"--law": "power", "--x": "x=examples", "--y": "loss", "--out": str(tmp_path / "f.json")} | change
    run = job(str(table), *(part for pair in options.items() for part in pair))
    assert run.returncode == 2, run.stdout
    assert message in run.stderr
    assert not (tmp_path / "f.json").exists()


def test_a_bug_shows_its_traceback_and_not_one_polite_line(table: Path, tmp_path: Path) -> None:
    """numpy raises ValueError too; a bug must not look like something that the user can fix."""
    code = (
        "import sys; sys.path.insert(0, 'jobs'); import fit; fit.group.fit_group = lambda *_: int('a bug'); fit.main()"
    )
    arguments = ("--law", "power", "--x", "x=examples", "--y", "loss", "--out", str(tmp_path / "f.json"))
    run = subprocess.run(
        [sys.executable, "-c", code, str(table), *arguments], capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert "Traceback" in run.stderr
    assert "ValueError: invalid literal for int() with base 10: 'a bug'" in run.stderr


def test_analysis_imports_nothing_of_the_engine() -> None:
    heavy = "[m for m in ('engine', 'ray', 'torch', 'vllm') if m in sys.modules]"
    code = f"import sys, analysis.fits.table, analysis.study.fits, analysis.report.page; print({heavy})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
