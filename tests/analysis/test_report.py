"""The page of a study: it needs no network, its command repeats its fits, and no name can write into it."""

import base64
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import made_study
import polars as pl
import pytest

from analysis.report import figures
from engine.cluster.machines import Estimate
from engine.storage.records import Begun, to_plain
from engine.study import Trial


def test_a_name_cannot_write_into_the_page() -> None:
    rows = pl.DataFrame({"domain": ["d"], "protocol": ['p"><script>$x$'], "mean": [0.1], "low": [0.0], "high": [0.2]})
    assert "<script>" not in figures.draw_dots(rows, "domain", "protocol", 'a"><script>\\1', "points")


class Page(HTMLParser):
    """The addresses, downloads and pictures of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.files: dict[str, bytes] = {}
        self.pictures = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.pictures += tag == "svg"
        self.addresses += [v for k, v in values.items() if k in ("href", "src", "xlink:href") and v]
        if "download" in values:
            self.files[values["download"]] = base64.b64decode(values["href"].split(",")[1])


def job(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "jobs/report.py", *arguments], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "made<b>"
    (folder / "results").mkdir(parents=True)
    tables = made_study.tables(domains=1, items=6, seeds=1)
    for name, table in zip(("trials", "questions"), tables, strict=True):
        few = pl.col("trial").str.contains("(naive|self_qa).*(small|large)")
        few &= ~pl.col("trial").str.contains("self_qa-none-large-n(4|16|64)-")  # only one budget: no law
        table.filter(few).write_parquet(folder / "results" / f"{name}.parquet")
    begin_trial(folder)
    return folder


def begin_trial(folder: Path) -> None:
    """A trial that was begun and has no result."""
    trial = Trial(trainee="small", domain="domain-0", protocol="naive", label="left-over")
    expected = Estimate(train_tokens=1, train_flops=1, selfplay_flops=1, seconds=1, basis="nothing")
    begun = Begun(trial=trial, identity={}, fingerprint="", versions={}, estimate=expected)
    (folder / "trials" / trial.key).mkdir(parents=True)
    (folder / "trials" / trial.key / "trial.json").write_text(json.dumps(to_plain(begun)))


@pytest.mark.slow
def test_the_page_needs_no_network_and_its_command_repeats_its_fits(study: Path, tmp_path: Path) -> None:
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
    redo = redo.replace("fits.json", str(tmp_path / "again.json")).replace("python", sys.executable, 1)
    subprocess.run(redo, shell=True, check=True, capture_output=True)
    original, again = (json.loads((tmp_path / name).read_text())["fits"] for name in ("fits.json", "again.json"))
    assert [f["group"]["protocol"] for f in original] == ["naive", "naive", "self_qa"]
    assert "No law for large under self_qa: all of its trials have one budget." in text
    by_group = {json.dumps(f["group"], sort_keys=True): f for f in again}
    assert len(by_group) == len(original)
    for one in original:
        other = by_group[json.dumps(one["group"], sort_keys=True)]
        for part in ("law", "parameters", "intervals", "objective", "choice", "n_fit", "influence"):
            assert one[part] == other[part], part


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (pl.col("context_mode") == "prefix", "no trial of context mode none is done"),
        (pl.col("moment") == "after", "the results contain no choices asked closed book before training"),
    ],
)
def test_results_without_anything_to_show_are_named_with_status_2(tmp_path: Path, keep: pl.Expr, message: str) -> None:
    (tmp_path / "results").mkdir()
    for name, table in zip(("trials", "questions"), made_study.tables(domains=1, items=2, seeds=1), strict=True):
        table.filter(keep).write_parquet(tmp_path / "results" / f"{name}.parquet")
    run = job(str(tmp_path))
    assert run.returncode == 2, run.stderr
    assert message in run.stderr
    assert "Traceback" not in run.stderr


def test_a_folder_without_results_is_named_with_what_to_do(tmp_path: Path) -> None:
    run = job(str(tmp_path))
    assert run.returncode == 2
    assert f"{tmp_path}/results/trials.parquet: no such file" in run.stderr
    assert "jobs/grid.py" in run.stderr
