"""The ledger of a study: the only place that knows its file names, and what state a trial or a pool is in.

pools/POOL/pool.json draws-*.parquet       what a generator wrote
           elements.parquet                the replay elements in it, once a phase has read the draws
trials/KEY/trial.json                      first: settings and fingerprint
           train/                          Ray Train's checkpoints, while it trains
           adapter/ or model/ losses.parquet trained.json
           questions.parquet result.json   last: its existence means done
           failure.json                    why it failed, until it is begun again or succeeds
before/NAME/questions.parquet before.json  what an untrained model answered
results/trials.parquet questions.parquet report.html
tune/                                      Ray Tune's own, while it runs
"""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import polars as pl

from engine import UserError
from engine.storage.fingerprint import Identity, differences, fingerprint
from engine.storage.records import (
    Begun,
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
        """What was begun under a key. Raises RecordError."""
        return self._read(Begun, _trial(key, "trial.json"))

    def state(self, trial: Trial, identity: Identity) -> tuple[State, tuple[str, ...]]:
        """The state of a trial, and if it is stale, in which fields it differs from what was begun under its key."""
        if self.store.exists(_trial(trial.key, "trial.json")):
            begun = self.begun(trial.key)
            if begun.fingerprint != fingerprint(identity):
                return "stale", tuple(differences(begun.identity, identity))
        files: tuple[tuple[str, State], ...] = (
            ("result.json", "done"),
            ("trained.json", "trained"),
            ("failure.json", "failed"),
        )
        return next((state for file, state in files if self.store.exists(_trial(trial.key, file))), "to do"), ()

    def unfinished_keys(self) -> list[str]:
        """Keys of the trials that were begun and are not done."""
        return sorted(set(self._keys("trial.json")) - set(self.done_keys()))

    def done_keys(self) -> list[str]:
        """Keys of all trials that are done."""
        return self._keys("result.json")

    def is_trained(self, key: str) -> bool:
        """Has the trial been trained?"""
        return self.store.exists(_trial(key, "trained.json"))

    def is_done(self, key: str) -> bool:
        """Is the trial done?"""
        return self.store.exists(_trial(key, "result.json"))

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

    def train_address(self, key: str) -> str:
        """Where Ray Train keeps the checkpoints of a trial, in a folder `train`."""
        return self.store.address(f"trials/{key}")

    def clear_checkpoints(self, key: str) -> None:
        """Removes the checkpoints of a trial that is trained or has diverged."""
        self.store.remove(_trial(key, "train"))

    def tune_address(self) -> str:
        """Where Ray Tune keeps its own state, in a folder `tune`."""
        return self.store.address("")

    def clear_tune(self) -> None:
        """Removes Ray Tune's state; a trial's own state is in its files."""
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

    def trained_keys(self) -> list[str]:
        """Keys of all trials that are trained."""
        return self._keys("trained.json")

    # ---- its scores --------------------------------------------------------------------------------------------------

    def mark_done(self, key: str, questions: pl.DataFrame, record: Scored) -> None:
        """Records the scores of a trained model: the trial is done."""
        self.store.write_table(_trial(key, "questions.parquet"), questions)
        self._write(_trial(key, "result.json"), record)
        self._forget_failure(key)

    def scored(self, key: str) -> Scored:
        """Accuracies and what evaluation took. Raises RecordError."""
        return self._read(Scored, _trial(key, "result.json"))

    def questions(self, key: str) -> pl.DataFrame:
        """What the trained model answered."""
        return self._table(_trial(key, "questions.parquet"))

    def mark_untrained(self, p: Planned, questions: pl.DataFrame) -> None:
        """Records the scores of a trial's untrained model."""
        folder = f"before/{name_untrained(p.identity)}"
        self.store.write_table(f"{folder}/questions.parquet", questions)
        self._write(f"{folder}/before.json", Untrained(trainee=p.identity["trainee"], domain=p.trial.domain))

    def has_untrained(self, identity: Identity) -> bool:
        """Has the untrained model of such a trial been scored?"""
        return self.store.exists(f"before/{name_untrained(identity)}/before.json")

    def untrained_questions(self, identity: Identity) -> pl.DataFrame:
        """What the untrained model answered."""
        return self._table(f"before/{name_untrained(identity)}/questions.parquet")

    # ---- pools -------------------------------------------------------------------------------------------------------

    def claim_pool(self, pool: str, identity: Identity) -> None:
        """Records a pool's identity. Raises UserError if it was begun with another one, with the fields that differ."""
        path = f"pools/{pool}/pool.json"
        if not self.store.exists(path):
            self._write(path, PoolBegun(identity=identity, fingerprint=fingerprint(identity)))
        if lines := differences(self._read(PoolBegun, path).identity, identity):
            raise UserError(f"pool {pool} was begun with other settings:\n    " + "\n    ".join(lines))

    def add_draws(self, pool: str, draws: pl.DataFrame) -> None:
        """Adds a shard of draws to a pool."""
        self.store.write_table(f"pools/{pool}/draws-{uuid.uuid4().hex}.parquet", draws)

    def draws(self, pool: str) -> pl.DataFrame:
        """All draws of a pool, in no order; an empty table without columns if there are none."""
        return concat(self._table(path) for path in self.store.list(f"pools/{pool}/draws-*.parquet"))

    def put_elements(self, pool: str, elements: pl.DataFrame) -> None:
        """Keeps the replay elements of a pool, as the draws gave them."""
        self.store.write_table(f"pools/{pool}/elements.parquet", elements)

    def elements(self, pool: str) -> pl.DataFrame | None:
        """The replay elements of a pool; None if no self-play phase has read its draws."""
        path = f"pools/{pool}/elements.parquet"
        return self._table(path) if self.store.exists(path) else None

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

    def results(self) -> pl.DataFrame:
        """The results table of trials."""
        return self._table(f"results/{RESULT_TABLES[0]}.parquet")

    def results_address(self) -> str:
        """Where the results tables are, for a person."""
        first, second = (f"{name}.parquet" for name in RESULT_TABLES)
        return f"{self.store.address(f'results/{first}')} and {second}"

    def has_results(self) -> bool:
        """Are there results tables?"""
        return self.store.exists(f"results/{RESULT_TABLES[0]}.parquet")

    def put_report(self, page: bytes) -> str:
        """Keeps the report's page; gives its address."""
        self.store.write_bytes("results/report.html", page)
        return self.store.address("results/report.html")

    # ---- one file ----------------------------------------------------------------------------------------------------

    def _forget_failure(self, key: str) -> None:
        self.store.remove(_trial(key, "failure.json"))

    def _keys(self, file: str) -> list[str]:
        return [path.split("/")[1] for path in self.store.list(f"trials/*/{file}")]

    def _write(self, path: str, record: Any) -> None:
        self.store.write_json(path, to_plain(record))

    def _read(self, kind: type[R], path: str) -> R:
        address = self.store.address(path)
        try:
            value = self.store.read_json(path)
        except FileNotFoundError:
            raise RecordError(f"{address}: no such file; remove its folder, so that it is made again") from None
        except json.JSONDecodeError as error:
            raise RecordError(f"{address}: not JSON ({error}); remove its folder, so that it is made again") from error
        return from_plain(kind, value, address)

    def _table(self, path: str) -> pl.DataFrame:
        return self.store.read_table(path)


def _trial(key: str, file: str) -> str:
    return f"trials/{key}/{file}"


def _weights(trial: Trial) -> str:
    return _trial(trial.key, "adapter" if trial.training.method == "lora" else "model")
