"""The ledger of a study: the only place that knows its file names, and what state a trial or a pool is in.

pools/POOL/pool.json draws-*.parquet       what a generator wrote
           elements.parquet                the replay elements in it, once a phase has read the draws
trials/KEY/trial.json                      first: settings and fingerprint
           checkpoints/                    while it trains: one folder per step and rank, and which step is whole
           adapter/ or model/ losses.parquet trained.json
           questions.parquet result.json   last: its existence means done
           failure.json                    why it failed, until it is begun again or succeeds
before/NAME/questions.parquet before.json  what an untrained model answered
results/trials.parquet questions.parquet report.html
tune/                                      Ray Tune's and Ray Train's own, while they run
lock*.json                                 who runs the study now, see `engine.storage.lock`

A folder below `trials` is a trial if its `trial.json` is there and names it; all else is the user's own. What cannot be
read is refused by a RecordError, which names the file and says what to remove so that it is made again.
"""

import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any, TypeVar

import polars as pl

from engine import UserError
from engine.storage import lock
from engine.storage.fingerprint import Identity, differences, fingerprint
from engine.storage.records import (
    Begun,
    Checkpoint,
    Failure,
    Phase,
    Planned,
    PoolBegun,
    RecordError,
    Scored,
    State,
    Trained,
    Untrained,
    from_plain,
    to_plain,
)
from engine.storage.store import Store, concat
from engine.study import Trial

R = TypeVar("R")
RESULT_TABLES = ("trials", "questions")
LAST = "checkpoints/last.json"
DRAW = ("item", "draw")  # what names a draw in its pool
REMOVE_FOLDER = "remove its folder, so that it is made again"
REMOVE_SHARD = "remove it, so that its draws are made again"
REMOVE_ELEMENTS = "remove it and run jobs/selfplay.py, which reads it from the draws again"
REMOVE_RESULTS = "run jobs/grid.py, which makes it again"


class AnotherTrial(RecordError):
    """A folder below `trials` with the settings of another trial, such as a copy that a person made."""


def name_untrained(identity: Identity) -> str:
    """The name of an untrained model's scores, shared by all trials that ask it the same about the same news."""
    same = {k: identity[k] for k in ("trainee", "precision", "domain", "asked", "asking")}
    same["news"] = identity["pool"]["news"]
    return f"{identity['trainee'].rpartition('@')[0]}-{identity['domain']}-{fingerprint(same)[:12]}"


def split_pool_address(address: str) -> tuple[str, str]:
    """The study's root and the pool's name, of `STORAGE/STUDY/pools/NAME`. Raises UserError for another address."""
    root, _, name = address.rstrip("/").rpartition("/pools/")
    if not root:
        raise UserError(f"{address}: not the address of a pool; write STORAGE/STUDY/pools/NAME")
    return root, name


@dataclass(frozen=True, slots=True)
class Ledger:
    """Typed reads and writes of the files of one study."""

    store: Store

    # ---- the study ---------------------------------------------------------------------------------------------------

    def lock(self) -> AbstractContextManager[None]:
        """The study for this process alone. Raises UserError if another one that is alive has it."""
        return lock.hold(self.store)

    # ---- a trial -----------------------------------------------------------------------------------------------------

    def begin(self, p: Planned, versions: Mapping[str, str]) -> None:
        """Records a trial's settings before anything is computed, unless they are recorded."""
        if not self.store.exists(_trial(p.trial.key, "trial.json")):
            mark = fingerprint(p.identity)
            record = Begun(
                trial=p.trial, identity=p.identity, fingerprint=mark, versions=dict(versions), estimate=p.estimate
            )
            self._write(_trial(p.trial.key, "trial.json"), record)

    def begun(self, key: str) -> Begun:
        """What was begun under a key. Raises RecordError; AnotherTrial if it was begun under another key."""
        begun = self._read(Begun, _trial(key, "trial.json"))
        if begun.trial.key != key:
            address, remedy = (
                self.store.address(_trial(key, "trial.json")),
                "rename its folder so, or move it away",
            )
            raise AnotherTrial(f"{address}: of trial {begun.trial.key}; {remedy}")
        return begun

    def state(self, trial: Trial, identity: Identity) -> tuple[State, tuple[str, ...]]:
        """The state of a trial; of a stale one also the fields that differ, of a damaged one what cannot be read."""
        files = [name for name in self.store.names(f"trials/{trial.key}") if not name.endswith(".part")]
        if not files:
            return "to do", ()
        try:
            begun = self.begun(trial.key)
        except RecordError as fault:
            return "damaged", (str(fault),)
        if begun.fingerprint != fingerprint(identity):
            return "stale", tuple(differences(begun.identity, identity))
        if faults := self.find_faults(trial.key, identity, files):
            return "damaged", tuple(faults)
        done = "result.json" in files and self.has_untrained(identity)
        states: list[tuple[bool, State]] = [
            (done, "done"),
            ("trained.json" in files, "trained"),
            ("failure.json" in files, "failed"),
        ]
        return next((state for reached, state in states if reached), "to do"), ()

    def find_faults(self, key: str, identity: Identity, files: Collection[str]) -> list[str]:
        """What cannot be read of a trial that has these files, its untrained model's scores included."""
        scored = "result.json" in files
        reads: list[tuple[bool, Callable[[], Any]]] = [
            ("failure.json" in files, lambda: self.failure(key)),
            ("trained.json" in files or scored, lambda: self.trained(key)),
            (scored, lambda: self.scored(key)),
            (scored, lambda: self.questions(key)),
            (self.has_untrained(identity), lambda: self.untrained_questions(identity)),
        ]
        return collect_faults(read for needed, read in reads if needed)

    def unfinished_keys(self) -> list[str]:
        """Keys of the trials that were begun and are not done."""
        return sorted(set(self._keys("trial.json")) - set(self.done_keys()))

    def done_keys(self) -> list[str]:
        """Keys of all trials that are done."""
        return self._keys("result.json")

    def scored_folders(self) -> list[str]:
        """Names of the folders that have a result: trials that are done, damaged ones, copies that a person made."""
        return [name for name in self.store.names("trials") if self.store.exists(_trial(name, "result.json"))]

    def is_trained(self, key: str) -> bool:
        """Has the trial been trained?"""
        return self.store.exists(_trial(key, "trained.json"))

    def is_done(self, key: str) -> bool:
        """Is the trial done? Its scores and those of its untrained model have to be there."""
        return self.store.exists(_trial(key, "result.json")) and self.has_untrained(self.begun(key).identity)

    def fail(self, failure: Failure) -> None:
        """Records why a trial did not finish."""
        self._write(_trial(failure.key, "failure.json"), failure)

    def failure(self, key: str) -> Failure | None:
        """Why the trial failed the last time, if it did."""
        path = _trial(key, "failure.json")
        return self._read(Failure, path) if self.store.exists(path) else None

    def clear_failure(self, key: str, phase: Phase) -> None:
        """Forgets that a trial failed in a phase, since that phase tries it again."""
        failure = self.failure(key)
        if failure and failure.phase == phase:
            self._forget_failure(key)

    # ---- its training ------------------------------------------------------------------------------------------------

    def put_checkpoint(self, key: str, step: int, rank: int, folder: str) -> None:
        """Keeps one rank's part of a checkpoint after so many steps. It counts once `finish_checkpoint` is called."""
        self.store.put_folder(folder, _checkpoint(key, step, rank))

    def finish_checkpoint(self, key: str, step: int) -> None:
        """Makes a checkpoint, of which all ranks have kept their parts, the last one, and removes those before it."""
        self._write(_trial(key, LAST), Checkpoint(step=step))
        for name in self.store.names(_trial(key, "checkpoints")):
            if not name.startswith(("last", f"{step}-")):
                self.store.remove(_trial(key, f"checkpoints/{name}"))

    def checkpoint(self, key: str, rank: int, scratch: str) -> str | None:
        """A local folder with a rank's part of the last checkpoint; None if there is none. Raises RecordError."""
        if not self.store.exists(_trial(key, LAST)):
            return None
        last = self._read(Checkpoint, _trial(key, LAST))
        return self.store.local_folder(_checkpoint(key, last.step, rank), scratch)

    def clear_checkpoints(self, key: str) -> None:
        """Removes the checkpoints of a trial that is trained or has diverged."""
        self.store.remove(_trial(key, "checkpoints"))

    def tune_address(self) -> str:
        """Where Ray Tune keeps its own state, in a folder `tune`."""
        return self.store.address("")

    def crews_address(self) -> str:
        """Where Ray Train keeps its own state, in a folder per crew."""
        return self.store.address("tune")

    def clear_tune(self) -> None:
        """Removes what Ray kept; a trial's own state is in its files."""
        self.store.remove("tune")

    def put_weights(self, trial: Trial, folder: str) -> None:
        """Keeps the trained weights, a PEFT adapter or a whole model, in place of what is there."""
        self.store.remove(_weights(trial))
        self.store.put_folder(folder, _weights(trial))

    def weights(self, trial: Trial, scratch: str) -> str:
        """A local folder with the trained weights, copied below `scratch` if they are kept elsewhere."""
        return self.store.local_folder(_weights(trial), scratch)

    def mark_trained(self, key: str, losses: pl.DataFrame, record: Trained) -> None:
        """Records that the trial is trained, and its loss log."""
        self.store.write_table(_trial(key, "losses.parquet"), losses)
        self._write(_trial(key, "trained.json"), record)
        self._forget_failure(key)

    def withdraw_training(self, key: str) -> None:
        """Forgets that a trial was trained, since its weights are not whole: the next run trains it again."""
        self.store.remove(_trial(key, "trained.json"))

    def trained(self, key: str) -> Trained:
        """What training took. Raises RecordError."""
        return self._read(Trained, _trial(key, "trained.json"))

    def all_trained(self) -> Iterator[tuple[Trial, Trained]]:
        """All trials that are trained, with what training took; damaged ones are not among them."""
        for key in self.store.names("trials"):
            with suppress(RecordError):
                if self.is_trained(key):
                    yield self.begun(key).trial, self.trained(key)

    # ---- its scores --------------------------------------------------------------------------------------------------

    def mark_done(self, key: str, questions: pl.DataFrame, record: Scored) -> None:
        """Records the scores of a trained model: the trial is done."""
        self.store.write_table(_trial(key, "questions.parquet"), questions)
        self._write(_trial(key, "result.json"), record)
        self._forget_failure(key)

    def scored(self, key: str) -> Scored:
        """Accuracies and what evaluation took. Raises RecordError."""
        return self._read(Scored, _trial(key, "result.json"), self._score_again(key))

    def questions(self, key: str) -> pl.DataFrame:
        """What the trained model answered. Raises RecordError."""
        return self._table(_trial(key, "questions.parquet"), self._score_again(key))

    def mark_untrained(self, p: Planned, questions: pl.DataFrame) -> None:
        """Records the scores of a trial's untrained model."""
        folder = f"before/{name_untrained(p.identity)}"
        self.store.write_table(f"{folder}/questions.parquet", questions)
        self._write(f"{folder}/before.json", Untrained(trainee=p.identity["trainee"], domain=p.trial.domain))

    def has_untrained(self, identity: Identity) -> bool:
        """Has the untrained model of such a trial been scored?"""
        return self.store.exists(f"before/{name_untrained(identity)}/before.json")

    def untrained_questions(self, identity: Identity) -> pl.DataFrame:
        """What the untrained model answered. Raises RecordError."""
        return self._table(f"before/{name_untrained(identity)}/questions.parquet", REMOVE_FOLDER)

    # ---- pools -------------------------------------------------------------------------------------------------------

    def claim_pool(self, pool: str, identity: Identity) -> None:
        """Records a pool's identity. Raises UserError if it was begun with another one, with the fields that differ."""
        begun = self.pool_begun(pool)
        if not begun:
            begun = PoolBegun(identity=identity, fingerprint=fingerprint(identity))
            self._write(f"pools/{pool}/pool.json", begun)
        if lines := differences(begun.identity, identity):
            raise UserError(f"pool {pool} was begun with other settings:\n    " + "\n    ".join(lines))

    def pool_begun(self, pool: str) -> PoolBegun | None:
        """What was begun under a pool's name, if anything. Raises RecordError, also for draws of unknown settings."""
        files = [name for name in self.store.names(f"pools/{pool}") if not name.endswith(".part")]
        return self._read(PoolBegun, f"pools/{pool}/pool.json") if files else None

    def find_pool_faults(self, pool: str) -> list[str]:
        """What cannot be read of a pool."""
        return collect_faults([lambda: self.pool_begun(pool), lambda: self.draws(pool), lambda: self.elements(pool)])

    def add_draws(self, pool: str, draws: pl.DataFrame) -> None:
        """Adds a shard of draws to a pool."""
        self.store.write_table(f"pools/{pool}/draws-{uuid.uuid4().hex}.parquet", draws)

    def draws(self, pool: str) -> pl.DataFrame:
        """All draws of a pool, in no order; an empty table without columns if there are none. Raises RecordError.

        Each draw is there once: two runs may have written it before a study was locked.
        """
        shards = [name for name in self.store.names(f"pools/{pool}") if fnmatch(name, "draws-*.parquet")]
        draws = concat(self._table(f"pools/{pool}/{name}", REMOVE_SHARD, *DRAW) for name in shards)
        return draws.unique(DRAW, keep="first", maintain_order=True) if draws.height else draws

    def put_elements(self, pool: str, elements: pl.DataFrame) -> None:
        """Keeps the replay elements of a pool, as the draws gave them."""
        self.store.write_table(f"pools/{pool}/elements.parquet", elements)

    def elements(self, pool: str) -> pl.DataFrame | None:
        """The replay elements of a pool; None if no self-play phase has read its draws. Raises RecordError."""
        path = f"pools/{pool}/elements.parquet"
        return self._table(path, REMOVE_ELEMENTS) if self.store.exists(path) else None

    def read_elements(self, pool: str) -> pl.DataFrame:
        """The replay elements of a pool that a trial has learned from. Raises RecordError, also if there are none."""
        return self._table(f"pools/{pool}/elements.parquet", REMOVE_ELEMENTS)

    # ---- results -----------------------------------------------------------------------------------------------------

    def put_results(self, trials: pl.DataFrame, questions: pl.DataFrame) -> None:
        """Writes the two results tables."""
        for name, table in zip(RESULT_TABLES, (trials, questions), strict=True):
            self.store.write_table(f"results/{name}.parquet", table)

    def result_files(self) -> dict[str, bytes]:
        """The two results tables as Parquet files, by file name. Raises UserError if there are none."""
        names = [f"{name}.parquet" for name in RESULT_TABLES]
        try:
            return {name: self.store.read_bytes(f"results/{name}") for name in names}
        except FileNotFoundError:
            address = self.store.address(f"results/{names[0]}")
            raise UserError(f"{address}: no such file; run the study with jobs/grid.py") from None

    def results(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The two results tables (trials, questions). Raises RecordError."""
        trials, questions = (self._table(f"results/{name}.parquet", REMOVE_RESULTS, "trial") for name in RESULT_TABLES)
        return trials, questions

    def results_are_newer_than(self, keys: Iterable[str]) -> bool:
        """Were the results tables written after all of these trials were done?"""
        written = min(self.store.modified(f"results/{name}.parquet") for name in RESULT_TABLES)
        return all(self.store.modified(_trial(key, "result.json")) <= written for key in keys)

    def results_address(self) -> str:
        """Where the results tables are, for a person."""
        first, second = (f"{name}.parquet" for name in RESULT_TABLES)
        return f"{self.store.address(f'results/{first}')} and {second}"

    def put_report(self, page: bytes) -> str:
        """Keeps the report's page; gives its address."""
        self.store.write_bytes("results/report.html", page)
        return self.store.address("results/report.html")

    # ---- one file ----------------------------------------------------------------------------------------------------

    def _forget_failure(self, key: str) -> None:
        self.store.remove(_trial(key, "failure.json"))

    def _keys(self, file: str) -> list[str]:
        """Keys of the trials that have a file, in their order."""
        there = (name for name in self.store.names("trials") if self.store.exists(_trial(name, file)))
        return [name for name in there if self._is_trial(name)]

    def _is_trial(self, folder: str) -> bool:
        try:
            return bool(self.begun(folder))
        except RecordError:
            return False

    def _score_again(self, key: str) -> str:
        return f"remove {self.store.address(_trial(key, 'result.json'))}, so that the trial is evaluated again"

    def _write(self, path: str, record: Any) -> None:
        self.store.write_json(path, to_plain(record))

    def _read(self, kind: type[R], path: str, remedy: str = REMOVE_FOLDER) -> R:
        address = self.store.address(path)
        try:
            value = self.store.read_json(path, remedy)
        except FileNotFoundError:
            raise RecordError(f"{address}: no such file; {remedy}") from None
        return from_plain(kind, value, address)

    def _table(self, path: str, remedy: str, *columns: str) -> pl.DataFrame:
        """A table that has these columns."""
        address = self.store.address(path)
        try:
            table = self.store.read_table(path, remedy)
        except FileNotFoundError:
            raise RecordError(f"{address}: no such file; {remedy}") from None
        if missing := [column for column in columns if column not in table.columns]:
            raise RecordError(f"{address}: a table without column {missing[0]!r}; {remedy}")
        return table


def collect_faults(reads: Iterable[Callable[[], Any]]) -> list[str]:
    """What of these reads fails, and what to do."""
    faults = []
    for read in reads:
        try:
            read()
        except RecordError as fault:
            faults.append(str(fault))
    return faults


def _trial(key: str, file: str) -> str:
    return f"trials/{key}/{file}"


def _checkpoint(key: str, step: int, rank: int) -> str:
    return _trial(key, f"checkpoints/{step}-rank{rank}")


def _weights(trial: Trial) -> str:
    return _trial(trial.key, "adapter" if trial.training.method == "lora" else "model")
