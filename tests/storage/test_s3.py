"""A study on S3, against a real server: what one client writes the other sees, and what fails is tried again."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest
from object_store import Faults, serve

from engine.storage import lock
from engine.storage.lock import Locked
from engine.storage.store import StorageError, Store

TABLE = pl.DataFrame({"a": [1, 2]})


@pytest.fixture(scope="module")
def faults() -> Iterator[Faults]:
    with serve("bucket") as (_, faults):
        yield faults


@pytest.fixture
def store(faults: Faults, request: pytest.FixtureRequest) -> Store:
    return Store(f"s3://bucket/{request.node.name}")


def test_what_is_written_is_read_listed_and_removed(store: Store, tmp_path: Path) -> None:
    store.check_writable()
    store.write_json("trials/a[1]*/trial.json", {"b": "ü"})
    store.write_table("trials/a[1]*/t.parquet", TABLE)
    (tmp_path / "weights/sub").mkdir(parents=True)
    (tmp_path / "weights/sub/w").write_text("w")
    store.put_folder(str(tmp_path / "weights"), "trials/a[1]*/adapter")
    assert store.read_json("trials/a[1]*/trial.json") == {"b": "ü"}
    assert store.read_columns("trials/a[1]*/t.parquet") == ["a"]
    assert store.names("trials/a[1]*") == ["adapter", "t.parquet", "trial.json"]
    copy = store.local_folder("trials/a[1]*/adapter", str(tmp_path / "scratch"))
    assert Path(copy, "sub/w").read_text() == "w"
    assert store.modified("trials/a[1]*/trial.json") > 1e9
    store.remove("trials/a[1]*")
    assert (store.names("trials"), store.exists("trials/a[1]*/trial.json")) == ([], False)


def test_another_client_s_files_are_seen_at_once(store: Store) -> None:
    code = "import sys; from engine.storage.store import Store; Store(sys.argv[1]).write_json('pools/p/x.json', 1)"
    assert store.names("pools/p") == []
    assert not store.exists("pools/p/x.json")
    subprocess.run([sys.executable, "-c", code, store.root], check=True)
    assert store.names("pools/p") == ["x.json"]
    assert store.read_json("pools/p/x.json") == 1


def test_of_many_that_create_a_file_at_once_one_succeeds(store: Store) -> None:
    def create(n: int) -> bool:
        try:
            store.create_json("lock.json", n)
        except FileExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(create, range(16))) == 1


def test_a_study_is_locked_for_all_machines(store: Store) -> None:
    with lock.hold(store), pytest.raises(Locked, match="another run has had this study"), lock.hold(store):
        pass
    assert store.names("") == []


@pytest.mark.parametrize("fault", ["503", "cut", "slow"])
def test_what_fails_for_a_moment_is_tried_again(store: Store, faults: Faults, fault: str) -> None:
    for do in (
        lambda: store.write_json("a.json", {"n": 1}),
        lambda: store.create_json("b.json", {"n": 1}),
        lambda: store.read_json("a.json"),
        lambda: store.names(""),
        lambda: store.remove("a.json"),
    ):
        faults.plan[:] = [fault]
        do()
        assert faults.plan == []
    assert store.names("") == ["b.json"]


def test_a_store_that_cannot_be_used_is_one_line(store: Store) -> None:
    with pytest.raises(StorageError, match="there is no such bucket"):
        Store("s3://no-such-bucket/study").check_writable()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "Could not connect to the endpoint URL"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "Unable to locate credentials"),
    ],
)
@pytest.mark.usefixtures("faults")
def test_a_store_that_is_not_there_or_gives_no_access_is_one_line(change: dict[str, str], why: str) -> None:
    code = "import sys; from engine.storage.store import Store; Store('s3://bucket/x').check_writable()"
    env = {name: value for name, value in os.environ.items() if name.startswith(("AWS", "PATH"))}
    env |= {"AWS_EC2_METADATA_DISABLED": "true"} | change
    said = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False, timeout=120
    )
    assert said.stderr.splitlines()[-1].startswith("engine.storage.store.StorageError: s3://bucket/x/writable-")
    assert why in said.stderr.splitlines()[-1]
