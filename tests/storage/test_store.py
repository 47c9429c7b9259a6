"""Files appear whole or not at all, on a disk and on an object store alike."""

from collections.abc import Iterator
from pathlib import Path

import fsspec
import polars as pl
import pytest

from engine.storage.store import Store


@pytest.fixture(params=["disk", "object store"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    yield Store(str(tmp_path / "study") if request.param == "disk" else "memory://bucket/study")
    fsspec.filesystem("memory").store.clear()


def test_what_is_written_is_read_and_listed(store: Store, tmp_path: Path) -> None:
    table = pl.DataFrame({"a": [1, 2]})
    store.write_json("trials/x/trial.json", {"b": "ü"})
    store.write_table("trials/x/t.parquet", table)
    assert store.read_json("trials/x/trial.json") == {"b": "ü"}
    assert store.read_table("trials/x/t.parquet").equals(table)
    assert store.list("trials/*/*.json") == ["trials/x/trial.json"]
    assert store.exists("trials/x")
    store.remove("trials/x")
    store.remove("trials/x")
    assert not store.exists("trials/x/trial.json")


def test_folders_are_put_and_fetched(store: Store, tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter/weights").write_text("w")
    store.put_folder(str(tmp_path / "adapter"), "trials/x/adapter")
    store.put_folder(str(tmp_path / "adapter"), "trials/x/adapter")
    assert Path(store.local_folder("trials/x/adapter", str(tmp_path / "scratch")), "weights").read_text() == "w"


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write_json("a.json", 1)
    with pytest.raises(ValueError, match="JSON"):
        store.write_json("a.json", float("nan"))
    assert store.read_json("a.json") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_relative_root_means_the_same_wherever_a_worker_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store("runs/study")
    monkeypatch.chdir("/")
    store.write_json("a.json", 1)
    assert (tmp_path / "runs/study/a.json").is_file()
