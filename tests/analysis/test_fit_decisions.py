"""`jobs/fit.py` says what a fit is used for: the best sizes per compute, IsoFLOP profiles, accuracy from loss."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.optimize import minimize_scalar

from analysis.fits import examples
from analysis.fits.examples import TRUTH
from analysis.laws import form

LARGE = {"N": np.array([7e10, 1e11]), "D": np.array([2e12, 3e12])}
N_AND_D = ("--law", "additive", "--x", "N=params", "--x", "D=tokens", "--y", "loss")
CHAIN = (*N_AND_D, "--predict", "{folder}/large.csv", "--chain", "accuracy", "questions")


def run_job(table: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    here = [argument.replace("{folder}", str(table.parent)) for argument in arguments]
    command = [sys.executable, "jobs/fit.py", str(table), *here, "--out", str(table.with_name("fit.json"))]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def read_record(table: Path) -> dict[str, Any]:
    [record] = json.loads(table.with_name("fit.json").read_text())["fits"]
    return dict(record)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Losses of `additive` with half a percent of noise, and the right answers to 500 questions by `chained`."""
    points = examples.make_losses("additive", 0.005)
    right = np.random.default_rng(0).binomial(500, form.find("chained").value({"L": points.y}, TRUTH["chained"]))
    columns = {"params": points.variables["N"], "tokens": points.variables["D"], "loss": points.y}
    pl.DataFrame(columns | {"accuracy": right / 500, "questions": 500}).write_csv(tmp_path / "runs.csv")
    pl.DataFrame({"params": LARGE["N"], "tokens": LARGE["D"]}).write_csv(tmp_path / "large.csv")
    return tmp_path / "runs.csv"


def find_best_n(flops: float) -> float:
    """The N of lowest loss under the true law, by search."""

    def loss(log_n: float) -> float:
        n = np.exp(log_n)
        return float(form.find("additive").value({"N": n, "D": flops / 6 / n}, TRUTH["additive"]))

    bounds = (np.log(1e7), np.log(1e13))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-9}).x))


def test_the_best_sizes_per_compute_are_those_of_the_true_law(runs: Path) -> None:
    run = run_job(runs, *N_AND_D, "--objective", "mse:log", "--bootstrap", "200", "--allocate", "1e21", "1e23")
    assert run.returncode == 0, run.stderr
    allocations = read_record(runs)["allocations"]
    assert [one["flops"] for one in allocations] == [1e21, 1e23]
    for one in allocations:
        low, high = one["interval_N"]
        assert low < find_best_n(one["flops"]) < high
        assert 6 * one["N"] * one["D"] == pytest.approx(one["flops"])
        assert high / low < 1.2
        assert f"best for {one['flops']:g} FLOPs: N={one['N']:.4g} [{low:.4g}, {high:.4g}] D=" in run.stdout


def test_without_resamples_the_best_sizes_have_no_intervals(runs: Path) -> None:
    assert run_job(runs, *N_AND_D, "--allocate", "1e21").returncode == 0
    [one] = read_record(runs)["allocations"]
    assert (one["interval_N"], one["interval_D"]) == (None, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*N_AND_D, "--allocate", "1e21", "0"), "--allocate 0: give FLOPs above 0, such as 1e21"),
        ((*N_AND_D, "--allocate", "inf"), "--allocate inf: give FLOPs above 0, such as 1e21"),
        (
            ("--law", "power", "--x", "x=params", "--y", "loss", "--allocate", "1e21"),
            "--allocate needs --law additive, not 'power': only that law has a best N and D",
        ),
        (
            ("--law", "auto", "--x", "N=params", "--x", "D=tokens", "--y", "loss", "--isoflop"),
            "--isoflop needs --law additive, not 'auto': only that law has a best N and D",
        ),
        (
            (*N_AND_D, "--chain", "accuracy", "questions"),
            "--chain accuracy questions needs --predict FILE: the points to predict the accuracy of",
        ),
        (
            ("--law", "logistic", "--x", "x=params", *CHAIN[6:]),
            "--chain needs a law of loss, such as --law additive, not 'logistic'",
        ),
        (("--law", "auto", *CHAIN[2:]), "--chain needs a law of loss, such as --law additive, not 'auto'"),
        ((*CHAIN, "--chain", "score", "questions"), "no column 'score'; the table has: params, tokens, loss, accuracy"),
        (
            (*CHAIN, "--chain", "questions", "questions"),
            "--chain questions questions: y is no share between 0 and 1 in rows 1, 2, 3, 4, 5 and 235 more",
        ),
        (
            (*CHAIN, "--chain", "accuracy", "loss"),
            "--chain accuracy loss: binomial needs whole numbers of tries as weights",
        ),
        (
            (*N_AND_D, "--isoflop", "--where", "params < 6e7"),
            "0 IsoFLOP profiles have a lowest point, two are needed: at least three sizes of one compute 6·N·D",
        ),
    ],
)
def test_what_cannot_be_decided_is_refused_with_what_to_do(
    runs: Path, arguments: tuple[str, ...], message: str
) -> None:
    run = run_job(runs, *arguments)
    assert run.returncode == 2, run.stdout
    assert message in run.stderr
    assert not runs.with_name("fit.json").exists()


def test_a_loss_that_falls_with_one_of_the_two_only_has_no_best_sizes(tmp_path: Path) -> None:
    variables = examples.make_variables(form.find("additive"))
    table = pl.DataFrame(
        {"params": variables["N"], "tokens": variables["D"], "loss": 1.7 + 400 * variables["N"] ** -0.34}
    )
    table.write_csv(tmp_path / "flat.csv")
    run = run_job(tmp_path / "flat.csv", *N_AND_D, "--allocate", "1e21")
    assert run.returncode == 2, run.stdout
    assert "there is no best N and D: B is 0, so the loss falls with only one of them" in run.stderr


def write_profiles(file: Path, noise: float, first: tuple[float, float], last: tuple[float, float]) -> None:
    """Nine runs at each of five computes, of sizes between two multiples of the best one: of the first, of the last."""
    flops = np.geomspace(1e18, 1e22, 5)
    low, high = (np.geomspace(a, b, 5) for a, b in zip(first, last, strict=True))
    n = np.array([find_best_n(c) * np.geomspace(a, b, 9) for c, a, b in zip(flops, low, high, strict=True)])
    d = flops[:, None] / 6 / n
    loss = form.find("additive").value({"N": n, "D": d}, TRUTH["additive"])
    y = loss * np.exp(noise * np.random.default_rng(0).standard_normal(n.shape))
    pl.DataFrame({"params": n.ravel(), "tokens": d.ravel(), "loss": y.ravel()}).write_csv(file)


def test_isoflop_profiles_give_the_power_of_compute_and_how_wrong_they_are(tmp_path: Path) -> None:
    """Sizes are too large at small compute and too small at large compute: the parabolas change the power."""
    write_profiles(tmp_path / "runs.csv", noise=0.0, first=(0.7, 100), last=(1 / 100, 1.4))
    run = run_job(tmp_path / "runs.csv", *N_AND_D, "--isoflop")
    assert run.returncode == 0, run.stderr
    isoflop = read_record(tmp_path / "runs.csv")["isoflop"]
    truth = TRUTH["additive"]["beta"] / (TRUTH["additive"]["alpha"] + TRUTH["additive"]["beta"])
    assert abs(isoflop["exponent_N"] - truth) > 0.015
    assert isoflop["exponent_N"] - isoflop["bias"] == pytest.approx(truth, abs=1e-6)
    assert [p["flops"] for p in isoflop["profiles"]] == pytest.approx(np.geomspace(1e18, 1e22, 5))
    assert isoflop["profiles"][0]["N"] > 1.02 * find_best_n(1e18)
    assert isoflop["interval_N"] is None
    assert f"N grows as compute to the power {isoflop['exponent_N']:.3f}\n" in run.stdout
    assert f"{truth:.3f} is nearer the truth than {isoflop['exponent_N']:.3f}" in run.stdout


def test_isoflop_intervals_come_from_resampled_runs(tmp_path: Path) -> None:
    write_profiles(tmp_path / "runs.csv", noise=0.002, first=(0.2, 5), last=(0.2, 5))
    assert run_job(tmp_path / "runs.csv", *N_AND_D, "--isoflop", "--bootstrap", "100").returncode == 0
    isoflop = read_record(tmp_path / "runs.csv")["isoflop"]
    low, high = isoflop["interval_N"]
    truth = TRUTH["additive"]["beta"] / (TRUTH["additive"]["alpha"] + TRUTH["additive"]["beta"])
    assert low < truth < high
    assert 0 < high - low < 0.1


def test_a_chain_predicts_the_accuracy_of_models_that_were_never_trained(runs: Path) -> None:
    run = run_job(runs, *CHAIN, "--objective", "mse:log", "--bootstrap", "100")
    assert run.returncode == 0, run.stderr
    chain = read_record(runs)["chain"]
    losses = form.find("additive").value(LARGE, TRUTH["additive"])
    truths = form.find("chained").value({"L": losses}, TRUTH["chained"])
    for row, n, loss, truth in zip(chain["predictions"], LARGE["N"], losses, truths, strict=True):
        assert row["N"] == n
        assert row["loss"] == pytest.approx(loss, rel=0.02)
        assert row["low"] < truth < row["high"]
        assert row["high"] - row["low"] < 0.1
        assert f"predicted accuracy: N={n:.4g} " in run.stdout
    assert chain["step"]["parameters"] == pytest.approx(TRUTH["chained"], rel=0.1)
    assert chain["step"]["n_fit"] == 240


def test_both_steps_of_a_chain_are_fitted_to_the_training_rows_only(runs: Path) -> None:
    """The accuracies of the held-out rows are wrong, and must not affect the fit."""
    table = pl.read_csv(runs).with_columns(train=pl.col("params").lt(5e9).cast(pl.Int64))
    wrong_outside = pl.when(train=1).then("accuracy").otherwise(0.0)
    table.with_columns(accuracy=wrong_outside).write_csv(runs)
    assert run_job(runs, *CHAIN, "--split", "train").returncode == 0
    step = read_record(runs)["chain"]["step"]
    assert step["n_fit"] == table["train"].sum()
    assert step["parameters"]["floor"] == pytest.approx(TRUTH["chained"]["floor"], abs=0.02)
