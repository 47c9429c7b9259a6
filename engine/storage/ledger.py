"""The ledger of a study: the only place that knows its file names, and what state a trial or a pool is in.

pools/POOL/pool.json draws-*.parquet       what a generator wrote
           elements.parquet                the replay elements in it, once a phase has read the draws
trials/KEY/trial.json                      first: settings and fingerprint
           checkpoints/                    while it trains: one folder per step and rank, and which step is whole
           adapter/ or model/ losses.parquet trained.json
           questions.parquet result.json   last: its existence means done
           events/                         its numbers for TensorBoard
           failure.json                    why it failed, until it is begun again or succeeds
before/NAME/questions.parquet before.json  what an untrained model answered
results/trials.parquet questions.parquet report.html
        sources.parquet                 what each trial's rows in them were made from
tune/                                      Ray Tune's and Ray Train's own, while they run
lock*.json                                 who runs the study now, see `engine.storage.lock`
progress.json                              how far the phase is that runs now
spent.json                                 node-hours so far, of all runs

A folder below `trials` is a trial if its `trial.json` is there and names it; all else is the user's own. What cannot be
read is refused by a RecordError, which names the file and says what to remove so that it is made again. Pools and
results have their parts in `pools.py` and `tables.py`; whoever needs a file asks the `Ledger`.
"""

import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import polars as pl

from engine.storage import lock
from engine.storage.files import REMOVE_FOLDER, collect_faults, trial_file
from engine.storage.fingerprint import Identity, differences, fingerprint
from engine.storage.pools import Pools
from engine.storage.records import (
    Begun,
    Checkpoint,
    Failure,
    Phase,
    Planned,
    Progress,
    RecordError,
    Scored,
    Spent,
    State,
    Trained,
    Untrained,
)
from engine.storage.store import REMAKE
from engine.storage.tables import Tables
from engine.study import Trial

LAST = "checkpoints/last.json"
PROGRESS = "progress.json"
SPENT = "spent.json"
EVENTS = "events"
ANSWERS = "questions.parquet"  # of a trial, and of an untrained model


class AnotherTrial(RecordError):
    """A folder below `trials` with the settings of another trial, such as a copy that a person made."""


def name_untrained(identity: Identity) -> str:
    """The name of an untrained model's scores, shared by all trials that ask it the same about the same news."""
    same = {k: identity[k] for k in ("trainee", "precision", "domain", "asked", "asking")}
    same["news"] = identity["pool"]["news"]
    return f"{identity['trainee'].rpartition('@')[0]}-{identity['domain']}-{fingerprint(same)[:12]}"


@dataclass(frozen=True, slots=True)
class Ledger(Pools, Tables):
    """Typed reads and writes of the files of one study."""

    # ---- the study ---------------------------------------------------------------------------------------------------

    def lock(self) -> AbstractContextManager[None]:
        """The study for this process alone. Raises UserError if another one that is alive has it."""
        return lock.hold(self.store)

    def put_progress(self, progress: Progress | None) -> None:
        """Keeps how far the phase that runs is, for others to read; None when it has ended."""
        if progress:
            self._write(PROGRESS, progress)
        else:
            self.store.remove(PROGRESS)

    def progress(self) -> Progress | None:
        """How far a phase is, if one runs, or was when its driver died."""
        return self._read(Progress, PROGRESS) if self.store.exists(PROGRESS) else None

    def put_spent(self, spent: Spent) -> None:
        """Keeps what the study has taken so far."""
        self._write(SPENT, spent)

    def spent(self) -> Spent:
        """What all runs of the study have taken so far."""
        return self._read(Spent, SPENT, REMAKE) if self.store.exists(SPENT) else Spent(node_hours={})

    # ---- a trial -----------------------------------------------------------------------------------------------------

    def begin(self, p: Planned, versions: Mapping[str, str]) -> None:
        """Records a trial's settings before anything is computed, unless they are recorded."""
        if not self.store.exists(trial_file(p.trial.key, "trial.json")):
            mark = fingerprint(p.identity)
            record = Begun(
                trial=p.trial, identity=p.identity, fingerprint=mark, versions=dict(versions), estimate=p.estimate
            )
            self._write(trial_file(p.trial.key, "trial.json"), record)

    def begun(self, key: str) -> Begun:
        """What was begun under a key. Raises RecordError; AnotherTrial if it was begun under another key."""
        begun = self._read(Begun, trial_file(key, "trial.json"))
        if begun.trial.key != key:
            address, remedy = (
                self.store.address(trial_file(key, "trial.json")),
                "rename its folder so, or move it away",
            )
            raise AnotherTrial(f"{address}: of trial {begun.trial.key}; {remedy}")
        return begun

    def state(self, trial: Trial, identity: Identity, untrained: str) -> tuple[State, tuple[str, ...]]:
        """The state of a trial; of a stale one also the fields that differ, of a damaged one what cannot be read.

        `untrained`: the name of its untrained model's scores, see `name_untrained`.
        """
        files = [name for name in self.store.names(f"trials/{trial.key}") if not name.endswith(".part")]
        if not files:
            return "to do", ()
        try:
            begun = self.begun(trial.key)
        except RecordError as fault:
            return "damaged", (str(fault),)
        if begun.identity != identity and begun.fingerprint != fingerprint(identity):
            return "stale", tuple(differences(begun.identity, identity))
        if faults := self.find_faults(trial.key, untrained, files):
            return "damaged", tuple(faults)
        done = "result.json" in files and self._has_before(untrained)
        states: list[tuple[bool, State]] = [
            (done, "done"),
            ("trained.json" in files, "trained"),
            ("failure.json" in files, "failed"),
        ]
        return next((state for reached, state in states if reached), "to do"), ()

    def find_faults(self, key: str, untrained: str, files: Collection[str]) -> list[str]:
        """What cannot be read of a trial that has these files, its untrained model's scores included.

        Of tables only the ends are read: a file that was cut has lost its end.
        """
        scored = "result.json" in files
        reads: list[tuple[bool, Callable[[], Any]]] = [
            ("failure.json" in files, lambda: self.failure(key)),
            ("trained.json" in files or scored, lambda: self.trained(key)),
            (scored, lambda: self.scored(key)),
            (scored, lambda: self._check_table(trial_file(key, ANSWERS), self._score_again(key))),
            (self._has_before(untrained), lambda: self._check_table(f"before/{untrained}/{ANSWERS}", REMOVE_FOLDER)),
        ]
        return collect_faults(read for needed, read in reads if needed)

    def reached(self) -> dict[str, State]:
        """How far each trial is that was begun, by its key and from which files it has: none of them is read."""
        files: dict[str, State] = {"result.json": "done", "trained.json": "trained", "failure.json": "failed"}
        begun = [name for name in self.store.names("trials") if self.store.exists(trial_file(name, "trial.json"))]
        return {
            key: next((state for file, state in files.items() if self.store.exists(trial_file(key, file))), "to do")
            for key in begun
        }

    def unfinished_keys(self) -> list[str]:
        """Keys of the trials that were begun and are not done."""
        return sorted(set(self._keys("trial.json")) - set(self.done_keys()))

    def done_keys(self) -> list[str]:
        """Keys of all trials that are done."""
        return self._keys("result.json")

    def scored_folders(self) -> list[str]:
        """Names of the folders that have a result: trials that are done, damaged ones, copies that a person made."""
        return [name for name in self.store.names("trials") if self.store.exists(trial_file(name, "result.json"))]

    def is_trained(self, key: str) -> bool:
        """Has the trial been trained?"""
        return self.store.exists(trial_file(key, "trained.json"))

    def is_scored(self, key: str) -> bool:
        """Has the trained model been scored?"""
        return self.store.exists(trial_file(key, "result.json"))

    def is_done(self, key: str) -> bool:
        """Is the trial done? Its scores and those of its untrained model have to be there."""
        return self.is_scored(key) and self.has_untrained(self.begun(key).identity)

    def fail(self, failure: Failure) -> None:
        """Records why a trial did not finish."""
        self._write(trial_file(failure.key, "failure.json"), failure)

    def failure(self, key: str) -> Failure | None:
        """Why the trial failed the last time, if it did."""
        path = trial_file(key, "failure.json")
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
        self._write(trial_file(key, LAST), Checkpoint(step=step))
        for name in self.store.names(trial_file(key, "checkpoints")):
            if not name.startswith(("last", f"{step}-")):
                self.store.remove(trial_file(key, f"checkpoints/{name}"))

    def checkpoint(self, key: str, rank: int, scratch: str) -> str | None:
        """A local folder with a rank's part of the last checkpoint; None if there is none. Raises RecordError."""
        if not self.store.exists(trial_file(key, LAST)):
            return None
        last = self._read(Checkpoint, trial_file(key, LAST))
        return self.store.local_folder(_checkpoint(key, last.step, rank), scratch)

    def clear_checkpoints(self, key: str) -> None:
        """Removes the checkpoints of a trial that is trained or has diverged."""
        self.store.remove(trial_file(key, "checkpoints"))

    @contextmanager
    def events(self, key: str) -> Iterator[str]:
        """A local folder for a trial's event files, those that TensorBoard reads; kept when it is left."""
        if self.store.is_local:
            yield self.store.address(trial_file(key, EVENTS))
            return
        with tempfile.TemporaryDirectory() as folder:
            yield folder
            self.store.put_folder(folder, trial_file(key, EVENTS))

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
        self.store.write_table(trial_file(key, "losses.parquet"), losses)
        self._write(trial_file(key, "trained.json"), record)
        self._forget_failure(key)

    def withdraw_training(self, key: str) -> None:
        """Forgets that a trial was trained, since its weights are not whole: the next run trains it again."""
        self.store.remove(trial_file(key, "trained.json"))

    def trained(self, key: str) -> Trained:
        """What training took. Raises RecordError."""
        return self._read(Trained, trial_file(key, "trained.json"))

    def all_trained(self) -> Iterator[tuple[Trial, Trained]]:
        """All trials that are trained, with what training took, except those of which one cannot be read.

        Of what was begun only the trial is read: its identity is nearly all of the file.
        """
        for key in self.store.names("trials"):
            with suppress(RecordError):
                if self.is_trained(key):
                    trial = self._read_first(Trial, trial_file(key, "trial.json"), "trial")
                    if trial.key == key:
                        yield trial, self.trained(key)

    # ---- its scores --------------------------------------------------------------------------------------------------

    def mark_done(self, key: str, questions: pl.DataFrame, record: Scored) -> None:
        """Records the scores of a trained model: the trial is done."""
        self.store.write_table(trial_file(key, ANSWERS), questions)
        self._write(trial_file(key, "result.json"), record)
        self._forget_failure(key)

    def scored(self, key: str) -> Scored:
        """Accuracies and what evaluation took. Raises RecordError."""
        return self._read(Scored, trial_file(key, "result.json"), self._score_again(key))

    def questions(self, key: str) -> pl.DataFrame:
        """What the trained model answered. Raises RecordError."""
        return self._table(trial_file(key, ANSWERS), self._score_again(key))

    def stamp_trial(self, key: str, untrained: str) -> str:
        """What differs whenever a file has changed since from which a trial's results are made; its pool's apart."""
        own = [trial_file(key, file) for file in ("trial.json", "trained.json", "result.json", ANSWERS)]
        return self._stamp([*own, f"before/{untrained}/{ANSWERS}"])

    def mark_untrained(self, p: Planned, questions: pl.DataFrame) -> None:
        """Records the scores of a trial's untrained model."""
        folder = f"before/{name_untrained(p.identity)}"
        self.store.write_table(f"{folder}/{ANSWERS}", questions)
        self._write(f"{folder}/before.json", Untrained(trainee=p.identity["trainee"], domain=p.trial.domain))

    def has_untrained(self, identity: Identity) -> bool:
        """Has the untrained model of such a trial been scored?"""
        return self._has_before(name_untrained(identity))

    def untrained_questions(self, identity: Identity) -> pl.DataFrame:
        """What the untrained model of such a trial answered. Raises RecordError."""
        return self.questions_before(name_untrained(identity))

    def questions_before(self, untrained: str) -> pl.DataFrame:
        """What an untrained model answered, by its name. Raises RecordError."""
        return self._table(f"before/{untrained}/{ANSWERS}", REMOVE_FOLDER)

    def _has_before(self, untrained: str) -> bool:
        return self.store.exists(f"before/{untrained}/before.json")

    # ---- one file ----------------------------------------------------------------------------------------------------

    def _forget_failure(self, key: str) -> None:
        self.store.remove(trial_file(key, "failure.json"))

    def _keys(self, file: str) -> list[str]:
        """Keys of the trials that have a file, in their order."""
        there = (name for name in self.store.names("trials") if self.store.exists(trial_file(name, file)))
        return [name for name in there if self._is_trial(name)]

    def _is_trial(self, folder: str) -> bool:
        try:
            return bool(self.begun(folder))
        except RecordError:
            return False

    def _score_again(self, key: str) -> str:
        return f"remove {self.store.address(trial_file(key, 'result.json'))}, so that the trial is evaluated again"


def _checkpoint(key: str, step: int, rank: int) -> str:
    return trial_file(key, f"checkpoints/{step}-rank{rank}")


def _weights(trial: Trial) -> str:
    return trial_file(trial.key, "adapter" if trial.training.method == "lora" else "model")
