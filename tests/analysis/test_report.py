"""What a study's results say: differences paired by item, the one curve, and the page that tells it."""

import base64
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import made_study
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.report import figures
from analysis.study import by_item, collapse, contrasts
from analysis.study import fits as study_fits


@pytest.fixture(scope="module")
def items() -> pl.DataFrame:
    return by_item.table(*made_study.tables())


# ---- differences -----------------------------------------------------------------------------------------------------


def test_a_row_a_trial_and_item_has_the_accuracies_of_its_questions(items: pl.DataFrame) -> None:
    _, questions = made_study.tables()
    one = items.row(17, named=True)
    mine = questions.filter(trial=one["trial"], item=one["item"], condition="icl", moment="after")
    assert one["icl_after"] == mine["correct"].mean()
    assert one["n_questions"] == 5
    assert items.height == items.select("trial", "item").n_unique()


def test_the_prefix_arms_of_a_study_are_told_as_shadowed(items: pl.DataFrame) -> None:
    found = contrasts.shadowing(items)
    assert found["trainee"].to_list() == ["small", "middle", "large"]
    for row in found.iter_rows(named=True):
        assert row["context_mode"] == "prefix"
        assert row["high"] < -0.5
        assert row["p_value"] < 0.01


def test_what_training_does_not_change_is_not_called_overexposure(items: pl.DataFrame) -> None:
    """Nine tests of no effect: none of them is below a hundredth."""
    assert min(contrasts.overexposure(items)["p_value"].to_list()) > 0.01
    assert contrasts.overexposure(items).height == 9


def test_worse_use_of_the_context_after_training_is_called_overexposure(items: pl.DataFrame) -> None:
    worse = items.with_columns(icl_after=pl.col("icl_after") - pl.when(protocol="naive").then(0.2).otherwise(0.0))
    found = contrasts.overexposure(worse)
    naive, others = (
        found.filter(keep).to_dicts() for keep in (pl.col("protocol") == "naive", pl.col("protocol") != "naive")
    )
    assert len(naive) == 3
    assert max(row["high"] for row in naive) < 0
    assert min(row["p_value"] for row in others) > 0.01


def test_protocols_are_ranked_by_what_they_teach(items: pl.DataFrame) -> None:
    ranking = contrasts.rank(items)
    assert ranking is not None
    assert ranking.accuracies["protocol"].to_list() == ["self_qa", "paraphrase", "naive"]
    assert ranking.sentence.startswith("self_qa ranks first: better than paraphrase and naive")


def test_p_values_are_corrected_after_holm() -> None:
    """The smallest of three is multiplied by three, the next by two, and none falls below one before it."""
    rng = np.random.default_rng(0)
    by_protocol = {name: rng.normal(mean, 0.3, 8) for name, mean in (("a", 0.6), ("b", 0.45), ("c", 0.3))}
    pairs = contrasts.pairs(pl.DataFrame(by_protocol), ["a", "b", "c"]).sort("p_value")
    assert pairs["p_value"].to_list() == pytest.approx([2 / 256, 4 / 256, 6 / 256])
    assert pairs["p_holm"].to_list() == pytest.approx([6 / 256, 8 / 256, 8 / 256])


def test_protocols_are_ranked_over_the_cells_that_they_share_and_who_shares_none_is_named(items: pl.DataFrame) -> None:
    apart = items.filter((pl.col("protocol") != "self_qa") | (pl.col("budget") == 256))
    rest = apart.filter((pl.col("protocol") == "self_qa") | (pl.col("budget") < 256))
    ranking = contrasts.rank(rest)
    assert ranking is not None
    assert ranking.accuracies["protocol"].to_list() == ["paraphrase", "naive"]
    assert ranking.left_out == ("self_qa",)


def test_protocols_that_teach_alike_are_seldom_told_apart() -> None:
    """Two arms of one truth, forty times: told apart at 5 % at the most, but for chance."""
    told = []
    for seed in range(40):
        naive = by_item.table(*made_study.tables(domains=1, seeds=2, seed=seed)).filter(protocol="naive")
        one, other = naive.filter(seed=0), naive.filter(seed=1).with_columns(protocol=pl.lit("b"), seed=0)
        ranking = contrasts.rank(pl.concat([one, other.cast(dict(one.schema))]))
        assert ranking is not None
        told.append("better than" in ranking.sentence)
    assert np.mean(told) <= 0.15


def test_copies_are_not_told_apart(items: pl.DataFrame) -> None:
    twice = pl.concat(
        [items.filter(protocol="naive"), items.filter(protocol="naive").with_columns(protocol=pl.lit("b"))]
    )
    ranking = contrasts.rank(twice)
    assert ranking is not None
    assert "not told apart from" in ranking.sentence
    assert contrasts.rank(items.filter(protocol="naive")) is None


def test_gaps_are_those_of_the_largest_budget(items: pl.DataFrame) -> None:
    largest = items.filter(trainee="small", protocol="naive", budget=256, domain="domain-0")
    wanted = (largest["icl_before"] - largest["closed_book_after"]).mean()
    [row] = contrasts.gaps(items).filter(trainee="small", protocol="naive", domain="domain-0").to_dicts()
    assert row["mean"] == pytest.approx(wanted)
    assert row["n_items"] == 10


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=2, max_size=12))
def test_a_difference_and_its_opposite_are_told_alike(values: list[float]) -> None:
    one, other = contrasts.difference(np.array(values)), contrasts.difference(-np.array(values))
    assert one.mean == pytest.approx(-other.mean)
    assert one.p_value == pytest.approx(other.p_value)
    assert one.low == (None if other.high is None else pytest.approx(-other.high))


def test_a_difference_is_students_over_items_with_exact_p_value() -> None:
    """Five values by hand: t of 4 degrees at 95 % is 2.132; two of the 32 sign patterns give a mean as large."""
    found = contrasts.difference(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    half = 2.1318 * np.sqrt(2.5 / 5)
    assert (found.n_items, found.mean) == (5, 3.0)
    assert (found.low, found.high) == pytest.approx((3 - half, 3 + half), abs=1e-3)
    assert found.p_value == pytest.approx(2 / 32)


def test_values_that_are_all_alike_have_no_interval_and_one_value_no_p_value() -> None:
    alike = contrasts.difference(np.array([0.5, 0.5, 0.5]))
    assert (alike.low, alike.high, alike.p_value) == (None, None, 0.25)
    assert contrasts.difference(np.array([0.5])).p_value is None


def test_tests_of_no_difference_reject_as_seldom_as_they_say() -> None:
    rng = np.random.default_rng(0)
    p = [contrasts.difference(rng.normal(size=8)).p_value for _ in range(400)]
    assert np.mean(np.array(p) < 0.1) == pytest.approx(0.1, abs=0.045)


# ---- one curve? ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("over", "verdict"), [("train_flops", "compute"), ("train_tokens", "tokens")])
def test_the_sizes_collapse_over_what_their_learning_is_a_function_of(over: str, verdict: str) -> None:
    found = collapse.judge(collapse.points(by_item.table(*made_study.tables(over=over))))
    assert found.verdict == verdict
    assert f"onto one curve in training {verdict}" in found.headline


@pytest.mark.slow
def test_one_curve_is_seldom_denied_where_there_is_one() -> None:
    """At 5 %, with twenty items whose questions stand and fall together."""
    made = (collapse.points(by_item.table(*made_study.tables(seeds=1, seed=seed))) for seed in range(40))
    p = [collapse.compare(found, "train_flops").clustered_p_value for found in made]
    assert np.mean(np.array(p) < 0.05) <= 0.15


@pytest.mark.parametrize(
    ("kept", "reason"),
    [
        (pl.col("trainee") == "small", "one model size only"),
        (pl.col("budget") == 16, "fewer than two sizes were trained at several budgets"),
        (pl.col("item") < "domain-0-05", "5 news items are too few for errors clustered by item with 3 sizes"),
    ],
)
def test_what_cannot_be_judged_is_told(items: pl.DataFrame, kept: pl.Expr, reason: str) -> None:
    """Also with domains whose texts differ in length, so that compute differs without any budget."""
    longer = pl.when(domain="domain-1").then(2.0).otherwise(1.0)
    uneven = items.with_columns(pl.col("train_flops") * longer, pl.col("train_tokens") * longer)
    assert reason in study_fits.judged(uneven.filter(kept))


@pytest.mark.parametrize("accuracy", [0.0, 1.0])
def test_answers_that_are_all_alike_are_not_judged(items: pl.DataFrame, accuracy: float) -> None:
    alike = items.with_columns(closed_book_after=pl.lit(accuracy))
    assert "all answers are right, or all are wrong" in study_fits.judged(alike)


def test_the_headline_is_the_table_s_own_gap_though_domains_differ_in_their_largest_budget(items: pl.DataFrame) -> None:
    uneven = items.filter((pl.col("domain") != "domain-1") | (pl.col("budget") < 256))
    gaps = contrasts.gaps(uneven)
    rows = study_fits.headline_gaps(gaps)
    assert rows["trainee"].to_list() == ["small", "middle", "large"]
    for row in rows.iter_rows(named=True):
        assert row["n_items"] == 20
        assert row["domain"] == contrasts.EVERYWHERE


def test_a_name_cannot_write_into_the_page() -> None:
    rows = pl.DataFrame({"domain": ["d"], "protocol": ['p"><script>$x$'], "mean": [0.1], "low": [0.0], "high": [0.2]})
    assert "<script>" not in figures.dots(rows, "domain", "protocol", 'a"><script>\\1', "points")


# ---- the page --------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Every address that the page names, and its headings."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.files: dict[str, bytes] = {}
        self.pictures = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given_ = {name: value or "" for name, value in attrs}
        self.pictures += tag == "svg"
        self.addresses += [v for k, v in given_.items() if k in ("href", "src", "xlink:href") and v]
        if "download" in given_:
            self.files[given_["download"]] = base64.b64decode(given_["href"].split(",")[1])


def job(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "jobs/report.py", *arguments], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "made<b>"
    (folder / "results").mkdir(parents=True)
    tables = made_study.tables(domains=1, items=6, seeds=1)
    for name, table in zip(("trials", "questions"), tables, strict=True):
        few = pl.col("trial").str.contains("(naive|self_qa).*(small|large)")
        few &= ~pl.col("trial").str.contains("self_qa-none-large-n(4|16|64)-")  # one budget is left: no law
        table.filter(few).write_parquet(folder / "results" / f"{name}.parquet")
    (folder / "trials" / "left-over").mkdir(parents=True)
    (folder / "trials" / "left-over" / "trial.json").write_text("{}")
    return folder


@pytest.mark.slow
def test_the_page_needs_no_network_and_hands_out_what_makes_its_fits_anew(study: Path, tmp_path: Path) -> None:
    run = job(str(study))
    assert run.returncode == 0, run.stderr
    text = (study / "results" / "report.html").read_text()
    page = Page()
    page.feed(text)
    assert all(a.startswith(("data:", "#")) for a in page.addresses)
    assert "url(http" not in text
    assert "made&lt;b&gt;" in text
    assert "<b>" not in text
    assert "left-over" in text
    assert page.pictures == 6
    tables = ("by_item", "gaps", "learned", "shadowing", "overexposure", "costs", "ranking", "pairs")
    assert set(page.files) == {"fits.json", *(f"{name}.csv" for name in tables)}
    for name, content in page.files.items():
        (tmp_path / name).write_bytes(content)
    command = re.search(r"<pre><code>(.*?)</code></pre>", text, re.DOTALL)
    assert command
    redo = command[1].replace("&#39;", "'").replace("&#34;", '"').replace("by_item.csv", str(tmp_path / "by_item.csv"))
    redo = redo.replace("fits.json", str(tmp_path / "anew.json")).replace("python", sys.executable, 1)
    subprocess.run(redo, shell=True, check=True, capture_output=True)
    told, anew = (json.loads((tmp_path / name).read_text())["fits"] for name in ("fits.json", "anew.json"))
    assert [f["group"]["protocol"] for f in told] == ["naive", "naive", "self_qa"]
    assert "No law for large under self_qa: all of its trials have one budget." in text
    by_group = {json.dumps(f["group"], sort_keys=True): f for f in anew}
    assert len(by_group) == len(told)
    for one in told:
        other = by_group[json.dumps(one["group"], sort_keys=True)]
        for part in ("law", "parameters", "intervals", "objective", "choice", "n_fit", "influence"):
            assert one[part] == other[part], part


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        (pl.col("context_mode") == "prefix", "no trial of context mode none is done"),
        (pl.col("moment") == "after", "the results hold no choices asked closed book before training"),
    ],
)
def test_results_that_no_page_can_be_made_of_are_named_with_status_2(
    tmp_path: Path, kept: pl.Expr, message: str
) -> None:
    (tmp_path / "results").mkdir()
    for name, table in zip(("trials", "questions"), made_study.tables(domains=1, items=2, seeds=1), strict=True):
        table.filter(kept).write_parquet(tmp_path / "results" / f"{name}.parquet")
    run = job(str(tmp_path))
    assert run.returncode == 2, run.stderr
    assert message in run.stderr
    assert "Traceback" not in run.stderr


def test_a_folder_without_results_is_named_with_what_to_do(tmp_path: Path) -> None:
    run = job(str(tmp_path))
    assert run.returncode == 2
    assert f"{tmp_path}/results/trials.parquet: no such file" in run.stderr
    assert "jobs/grid.py" in run.stderr
