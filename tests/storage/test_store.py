"""Files appear whole or not at all, on a disk and on an object store alike; what goes wrong is said in one line."""

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import polars as pl
import pytest

from engine import UserError
from engine.storage import store as stores
from engine.storage.records import RecordError
from engine.storage.store import Store

ODD = "st*[1]~?{a}::b"  # a study's name; every character is a pattern or a part of a URL somewhere
TABLE = pl.DataFrame({"a": [1, 2]})


@pytest.fixture(params=["disk", "object store"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    yield str(tmp_path) if request.param == "disk" else "memory://bucket"
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]


@pytest.fixture
def store(root: str) -> Store:
    return Store(f"{root}/study")


def test_what_is_written_is_read_and_listed(store: Store) -> None:
    store.write_json("trials/x/trial.json", {"b": "ü"})
    store.write_table("trials/x/t.parquet", TABLE)
    assert store.read_json("trials/x/trial.json") == {"b": "ü"}
    assert store.read_table("trials/x/t.parquet").equals(TABLE)
    assert store.names("trials/x") == ["t.parquet", "trial.json"]
    assert (store.names("trials"), store.names("nothing")) == (["x"], [])
    assert store.exists("trials/x")
    store.remove("trials/x")
    store.remove("trials/x")
    assert not store.exists("trials/x/trial.json")


def test_no_character_of_a_name_means_anything(root: str, tmp_path: Path) -> None:
    odd, neighbour = Store(f"{root}/{ODD}"), Store(f"{root}/stu[1]~x{{a}}::b")
    for store in (odd, neighbour):
        store.write_json("trials/a[1]*/trial.json", store.root)
        assert store.read_json("trials/a[1]*/trial.json") == store.root
        assert store.exists("trials/a[1]*/trial.json")
        assert store.names("trials") == ["a[1]*"]
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter/weights").write_text("w")
    odd.put_folder(str(tmp_path / "adapter"), "trials/a[1]*/adapter")
    copy = odd.local_folder("trials/a[1]*/adapter", str(tmp_path / "scratch"))
    assert Path(copy, "weights").read_text() == "w"
    odd.remove("trials/a[1]*")
    assert (odd.names("trials"), neighbour.names("trials")) == ([], ["a[1]*"])


def test_folders_are_put_and_fetched(store: Store, tmp_path: Path) -> None:
    (tmp_path / "adapter/deep").mkdir(parents=True)
    (tmp_path / "adapter/deep/weights").write_text("w")
    store.put_folder(str(tmp_path / "adapter"), "trials/x/adapter")
    store.put_folder(str(tmp_path / "adapter"), "trials/x/adapter")
    copy = Path(store.local_folder("trials/x/adapter", str(tmp_path / "scratch")))
    assert [p.relative_to(copy).as_posix() for p in copy.rglob("*") if p.is_file()] == ["deep/weights"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write_json("a.json", 1)
    with pytest.raises(ValueError, match="JSON"):
        store.write_json("a.json", float("nan"))
    assert store.read_json("a.json") == 1
    assert store.names("") == ["a.json"]


def test_a_relative_root_means_the_same_wherever_a_worker_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store("runs/study")
    monkeypatch.chdir("/")
    store.write_json("a.json", 1)
    assert (tmp_path / "runs/study/a.json").is_file()


def test_a_file_address_is_a_folder(tmp_path: Path) -> None:
    Store(f"file://{tmp_path}/study").write_json("a.json", 1)
    assert Store(f"{tmp_path}/study").read_json("a.json") == 1


def test_of_several_that_create_a_file_one_succeeds(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.create_json("lock.json", 1)
    with pytest.raises(FileExistsError):
        store.create_json("lock.json", 2)
    monkeypatch.setattr(os, "link", no_links)
    with pytest.raises(FileExistsError):
        store.create_json("lock.json", 2)
    store.create_json("other.json", 3)
    assert [store.read_json(name) for name in store.names("")] == [1, 3]


def no_links(*args: object) -> None:
    """How a mounted bucket answers."""
    raise OSError(95, "Operation not supported")


# ---- damaged files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b'{"a": ', b"\xff\xfe\x00", b"[" * 100_000])
def test_what_is_not_json_is_named(store: Store, content: bytes) -> None:
    store.write_bytes("a.json", content)
    with pytest.raises(RecordError, match=r"study/a\.json: not JSON .*; remove it"):
        store.read_json("a.json")


def test_json_is_bounded_before_it_is_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write_json("small.json", "x" * 2**20)
    store.write_bytes("large.json", b'"%s"' % (b"x" * 65 * 2**20))
    assert len(store.read_json("small.json")) == 2**20
    monkeypatch.setattr(Store, "read_bytes", lambda *args: pytest.fail("it was read"))
    with pytest.raises(RecordError, match=r"large\.json: 65 MiB of JSON, at most 64 MiB are allowed; remove it"):
        store.read_json("large.json")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_cut_and_empty_tables_are_named(store: Store, share: float) -> None:
    store.write_table("t.parquet", TABLE)
    content = store.read_bytes("t.parquet")
    store.write_bytes("t.parquet", content[: int(share * len(content))])
    with pytest.raises(RecordError, match=r"study/t\.parquet: .*; remove it"):
        store.read_table("t.parquet")


# ---- storage that is full, read-only or closed -----------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with room for one MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=False).returncode:
        pytest.skip("may not mount a file system here")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def files_in(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_a_full_disk_is_said_in_one_line_and_nothing_cut_is_left(small_disk: Path, tmp_path: Path) -> None:
    store, adapter = Store(f"{small_disk}/study"), tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "weights").write_bytes(bytes(2 * 2**20))
    store.write_json("a.json", 1)
    writes = {
        "a.json": lambda: store.write_bytes("a.json", bytes(2 * 2**20)),
        "x/adapter": lambda: store.put_folder(str(adapter), "x/adapter"),
    }
    for path, write in writes.items():
        with pytest.raises(UserError, match=rf"^{small_disk}/study/{path}: no space is left; free some.*$"):
            write()
    assert files_in(small_disk) == ["study/a.json"]
    assert store.read_json("a.json") == 1
    subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
    for write in writes.values():
        write()
    assert files_in(small_disk) == ["study/a.json", "study/x/adapter/weights"]


def test_a_read_only_disk_is_said_in_one_line(small_disk: Path) -> None:
    store = Store(f"{small_disk}/study")
    store.write_json("a.json", 1)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    for write in (lambda: store.write_json("b.json", 1), lambda: store.remove("a.json"), store.check_writable):
        with pytest.raises(UserError, match=rf"^{small_disk}/study/.*: the file system is read-only; .*--storage.*$"):
            write()
    assert store.read_json("a.json") == 1


AS_NOBODY = """
import os, sys
from engine import UserError
from engine.storage.store import Store
store = Store(sys.argv[1])
os.setuid(65534)
for what in (store.check_writable, lambda: store.exists("closed/a.json"), lambda: store.read_json("closed/a.json")):
    try:
        what()
    except UserError as error:
        print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_what_is_closed_to_us_is_not_taken_for_missing(tmp_path: Path) -> None:
    root = Path("/tmp") / f"closed-{os.getpid()}"  # pytest's own folders are closed to other users
    try:
        Store(str(root)).write_json("closed/a.json", 1)
        root.chmod(0o755)
        (root / "closed").chmod(0o700)
        run = subprocess.run([sys.executable, "-c", AS_NOBODY, root], capture_output=True, text=True, check=False)
    finally:
        shutil.rmtree(root)
    lines = run.stdout.splitlines()
    assert len(lines) == 3, run.stdout + run.stderr
    assert all("permission denied; change the permissions, or use another --storage" in line for line in lines)


def test_a_file_in_the_way_of_the_study_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    for root in (tmp_path / "runs", tmp_path / "runs/study"):
        with pytest.raises(UserError, match="a part of this path is a file"):
            Store(str(root)).check_writable()


def test_a_file_that_is_too_large_for_the_disk_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import resource, sys; from engine.storage.store import Store\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)); Store(sys.argv[1]).write_bytes('a', bytes(1000))"
    )
    run = subprocess.run([sys.executable, "-c", code, tmp_path / "s"], capture_output=True, text=True, check=False)
    assert "StorageError" in run.stderr.splitlines()[-1]
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("root", ["gs://bucket/runs", "nothing://bucket/runs"])
def test_storage_whose_client_is_missing_is_named(root: str) -> None:
    with pytest.raises(UserError, match=f"^{root}: .*; install what is missing, or use another --storage$"):
        Store(root).exists("a.json")


def test_storage_that_can_be_written_has_nothing_more_in_it_afterwards(store: Store) -> None:
    store.check_writable()
    assert store.names("") == []


def test_what_killed_processes_left_half_written_is_removed(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "[a]"))
    (tmp_path / "[a]/trials/x").mkdir(parents=True)
    for name in (f"trial.json.{'0a' * 16}.part", "notes.part"):
        (tmp_path / "[a]/trials/x" / name).write_text("")
    (tmp_path / f"[a]/trials/x/adapter.{'1b' * 16}.part/deep").mkdir(parents=True)
    store.remove_parts()
    assert store.names("trials/x") == ["notes.part"]


def test_room_is_that_of_the_disk_also_before_there_is_a_folder(tmp_path: Path) -> None:
    assert Store(str(tmp_path / "no/folder")).free_bytes() == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.1)
    assert Store("memory://bucket/x").free_bytes() is None
    assert stores.MAX_JSON_BYTES == 64 * 2**20


# ---- less than a whole file ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows_per_group", [1_000_000, 1])
def test_the_columns_of_a_table_are_in_its_end(store: Store, rows_per_group: int) -> None:
    wide = pl.DataFrame({f"a column with a long name {n}": range(500) for n in range(4)})
    buffer = io.BytesIO()
    wide.write_parquet(buffer, row_group_size=rows_per_group)
    store.write_bytes("t.parquet", buffer.getvalue())
    assert store.read_columns("t.parquet") == wide.columns
    store.write_bytes("t.parquet", buffer.getvalue()[:-1])
    with pytest.raises(RecordError, match=r"t\.parquet: not Parquet"):
        store.read_columns("t.parquet")


def test_a_long_table_is_not_read_for_its_columns(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write_table("t.parquet", pl.DataFrame({"a": range(100_000)}))
    monkeypatch.setattr(Store, "read_bytes", lambda store, path: pytest.fail(f"all of {path} was read"))
    assert store.read_columns("t.parquet") == ["a"]


def test_the_first_field_is_read_whatever_comes_after_it(store: Store) -> None:
    store.write_json("a.json", {"trial": {"seed": 1}, "identity": "x" * 100_000})
    assert store.read_first("a.json", "remove it", name="trial") == {"seed": 1}
    for content in (b"", b"[1]", b'{"other": 1}', b"\xff"):
        store.write_bytes("a.json", content)
        with pytest.raises(RecordError, match=r"a\.json: no JSON that begins with 'trial'; remove it"):
            store.read_first("a.json", "remove it", name="trial")


def test_a_lazy_table_is_written_as_one_that_is_whole(store: Store) -> None:
    store.write_table("whole.parquet", TABLE)
    store.write_table("lazy.parquet", store.scan_table("whole.parquet").filter(pl.col("a") > 1))
    assert store.read_table("lazy.parquet").equals(TABLE.filter(pl.col("a") > 1))
    assert store.read_table("whole.parquet", columns=["a"]).equals(TABLE)
