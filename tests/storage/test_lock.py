"""One run at a time: real processes that take, hold, lose and leave a study."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest

from engine import UserError
from engine.storage import lock
from engine.storage.lock import Locked, describe_process, hold, read_chain, sign_file, successor_file, take
from engine.storage.records import to_plain
from engine.storage.store import Store

HOLD = """
import sys, time
from engine.storage.lock import hold
from engine.storage.store import Store
with hold(Store(sys.argv[1])):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
    if len(sys.argv) > 3:
        raise RuntimeError(sys.argv[3])
"""


@pytest.fixture(params=["disk", "object store"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    yield Store(str(tmp_path / "study") if request.param == "disk" else "memory://bucket/study")
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]


@pytest.fixture
def folder(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "study"))


def start(store: Store, *args: str, code: str = HOLD) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", code, store.root, *args]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def start_holder(store: Store, *args: str) -> "subprocess.Popen[str]":
    process = start(store, *args)
    assert process.stdout
    assert process.stdout.readline() == "held\n", process.communicate()
    return process


def end(process: "subprocess.Popen[str]", how: signal.Signals = signal.SIGKILL) -> None:
    process.send_signal(how)
    process.communicate()


# ---- processes of this machine ---------------------------------------------------------------------------------------


def test_a_second_run_is_refused_in_one_line(folder: Store) -> None:
    holder = start_holder(folder, "60")
    try:
        with pytest.raises(UserError) as refused, hold(folder):
            pass
    finally:
        end(holder)
    line = str(refused.value)
    assert "\n" not in line
    for part in (
        folder.root,
        f"process {holder.pid} on {os.uname().nodename}",
        "since 20",
        "Wait until it ends or stop",
    ):
        assert part in line


@pytest.mark.parametrize("reaped", [True, False])
def test_the_study_of_a_killed_run_is_taken_over_at_once(folder: Store, reaped: bool) -> None:
    holder = start_holder(folder, "60")
    holder.send_signal(signal.SIGKILL)
    if reaped:
        holder.wait()
    else:
        time.sleep(0.5)  # a zombie has a process id, but is dead
    with hold(folder):
        assert len(read_chain(folder)) == 2
    holder.communicate()
    assert folder.names("") == []


@pytest.mark.parametrize("ending", ["end", "error", "interrupt"])
def test_a_study_is_free_however_its_run_ended(folder: Store, ending: str) -> None:
    holder = start_holder(folder, *(["0", "broken"] if ending == "error" else ["0" if ending == "end" else "60"]))
    if ending == "interrupt":
        holder.send_signal(signal.SIGINT)
    holder.communicate()
    assert folder.names("") == []


def test_a_process_id_that_was_given_again_is_another_process(folder: Store) -> None:
    dead = replace(describe_process(), started=12345)
    folder.write_json("lock.json", to_plain(dead))
    with hold(folder):
        assert read_chain(folder)[0] == dead
    assert folder.names("") == []


def test_of_many_that_take_over_from_the_same_dead_run_one_succeeds(folder: Store) -> None:
    end(start_holder(folder, "60"))
    takers = [start(folder, "60") for _ in range(6)]
    ends = time.monotonic() + 60
    while sum(taker.poll() is None for taker in takers) > 1 and time.monotonic() < ends:
        time.sleep(0.05)
    [winner] = [taker for taker in takers if taker.poll() is None]
    winner.kill()
    results = [taker.communicate() for taker in takers]
    assert [out for out, _ in results].count("held\n") == 1, results
    refused = [error.splitlines()[-1] for out, error in results if not out]
    assert all("Locked" in line and "another run has had this study" in line for line in refused), refused


CONTEND = """
import os, random, sys, time
from pathlib import Path
from engine.storage.lock import Locked, hold
from engine.storage.store import Store
store, inside = Store(sys.argv[1]), Path(sys.argv[1] + ".inside")
ends = time.monotonic() + float(sys.argv[2])
random.seed(os.getpid())
while time.monotonic() < ends:
    if os.fork() == 0:
        try:
            with hold(store):
                inside.touch(exist_ok=False)  # nobody else is here
                time.sleep(random.random() / 200)
                inside.unlink()
                if random.random() < 0.3:
                    os._exit(7)  # dies as a holder
        except Locked:
            os._exit(0)
        os._exit(1)
    _, status = os.wait()
    print(os.waitstatus_to_exitcode(status))
"""


def test_runs_that_come_die_and_go_are_never_two_at_a_time(folder: Store) -> None:
    runs = [start(folder, "8", code=CONTEND) for _ in range(4)]
    results = [run.communicate() for run in runs]
    codes = [int(line) for out, _ in results for line in out.split()]
    assert not any(error for _, error in results), results
    assert set(codes) == {0, 1, 7}, codes  # refused, ended, died


# ---- processes of other machines -------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> lock.Holder:
    """A holder on another machine."""
    monkeypatch.setattr(lock, "ALIVE_EVERY_S", 0.1)
    return replace(describe_process(), host="gpu-7", machine="another boot")


def test_a_run_on_another_machine_is_alive_while_it_gives_signs(store: Store, elsewhere: lock.Holder) -> None:
    store.write_json("lock.json", to_plain(replace(elsewhere, since=0.0)))
    store.write_json(sign_file(elsewhere), time.time() - lock.DEAD_AFTER_S / 2)
    with pytest.raises(Locked, match=r"on gpu-7.*90 s after its last sign of life"), hold(store):
        pass


@pytest.mark.parametrize("clock", [-1e6, 1e6])
def test_a_run_on_another_machine_without_signs_is_dead(store: Store, elsewhere: lock.Holder, clock: float) -> None:
    store.write_json("lock.json", to_plain(elsewhere))
    store.write_json(sign_file(elsewhere), time.time() + clock)
    with hold(store):
        assert len(read_chain(store)) == 2
    assert store.names("") == []


def test_a_wrong_clock_of_another_machine_does_not_make_its_run_dead(store: Store, elsewhere: lock.Holder) -> None:
    store.write_json("lock.json", to_plain(elsewhere))
    store.write_json(sign_file(elsewhere), 0.0)
    later = threading.Timer(0.1, store.write_json, (sign_file(elsewhere), 0.1))
    later.start()
    with pytest.raises(Locked), hold(store):
        pass
    later.join()


def test_a_run_gives_signs_of_life(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "ALIVE_EVERY_S", 0.05)
    with hold(store):
        [me] = read_chain(store)
        signs, ends = set(), time.monotonic() + 30
        while len(signs) < 3 and time.monotonic() < ends:
            if store.exists(sign_file(me)):
                signs.add(store.read_json(sign_file(me)))
        assert len(signs) == 3
    time.sleep(0.2)
    assert store.names("") == []


@pytest.fixture
def interruptible() -> Iterator[None]:
    """As jobs are. What a shell starts in the background ignores Ctrl-C, unless it says otherwise."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_a_run_that_another_one_has_taken_over_ends(store: Store, elsewhere: lock.Holder) -> None:
    with pytest.raises(Locked, match="has taken this study over"), hold(store):
        store.create_json(successor_file(read_chain(store)[0]), to_plain(elsewhere)) or time.sleep(20)
    assert read_chain(store)[1:] == [elsewhere]  # theirs is left alone


def test_who_finds_itself_outside_the_chain_starts_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    dead, me = replace(describe_process(), started=1), describe_process()
    store.write_json("lock.json", to_plain(dead))
    create = Store.create_json

    def release_first(self: Store, path: str, value: object) -> None:
        if path == successor_file(dead):
            self.remove("lock.json")  # another run that had taken over ends at this moment
        create(self, path, value)

    monkeypatch.setattr(Store, "create_json", release_first)
    take(store, me)
    assert read_chain(store) == [me]
    assert store.names("") == ["lock.json"]


def test_a_damaged_lock_says_what_to_do(store: Store) -> None:
    for content in (b"", b"[]"):
        store.write_bytes("lock.json", content)
        with pytest.raises(UserError, match=r"lock\.json: .*; if no run is using this study, remove it"), hold(store):
            pass
