"""Where a trial's numbers go while it runs, beside its own tables: TensorBoard always, another tracker if asked for.

    tensorboard --logdir runs/quickstart/trials
    python jobs/grid.py --study quickstart --track mlflow      # MLFLOW_TRACKING_URI says where
    python jobs/grid.py --study quickstart --track wandb       # WANDB_API_KEY, WANDB_MODE

A trial is one run of a tracker, by its key; a rerun goes on with it. A tracker that fails costs its own numbers only.
What a tracker is told by its environment has to be in that of all nodes: a key that Ray passed on would be in its logs.
"""

import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from importlib.util import find_spec
from typing import Any, Protocol

from engine import UserError
from engine.storage.ledger import Ledger
from engine.study import Trial

TRACK = "ENGRAM_TRACK"  # the tracker that was asked for, in the environment of a job and of its workers
Log = Callable[[int, Mapping[str, float]], None]  # of a step, with values by name


class Tracker(Protocol):
    """What a tracker has to do."""

    def log(self, step: int, values: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


@contextmanager
def tracking(ledger: Ledger, trial: Trial, first: int) -> Iterator[Log]:
    """A function that sends a trial's numbers, from step `first` on, to all trackers."""
    study, asked, trackers = ledger.store.root.rpartition("/")[2], os.environ.get(TRACK), list[Tracker]()
    with ledger.events(trial.key) as folder:
        attempt(TensorBoard.__name__, lambda: trackers.append(TensorBoard(folder, first)))
        if asked:
            attempt(asked, lambda: trackers.append(TRACKERS[asked](study, trial.key, settings_of(trial))))
        yield from sending(trackers)


def settings_of(trial: Trial) -> dict[str, Any]:
    """A trial's settings by their names, none of them within another."""
    settings = asdict(trial)
    inner = {name: value for group in ("training", "sampling") for name, value in settings.pop(group).items()}
    return settings | inner


def sending(trackers: list[Tracker]) -> Iterator[Log]:
    """A function that sends numbers to these trackers, which are closed in the end."""

    def send(step: int, values: Mapping[str, float]) -> None:
        trackers[:] = [t for t in trackers if attempt(type(t).__name__, partial(t.log, step, values))]

    try:
        yield send
    finally:
        for tracker in trackers:
            attempt(type(tracker).__name__, tracker.close)


def attempt(name: str, do: Callable[[], object]) -> bool:
    """Has a tracker do something; False if it could not, with a warning of the job: training goes on without it.

    One that was asked for is given up for this worker's next trials, too: each further try might wait long.
    """
    try:
        do()
    except Exception as error:
        from engine.monitor import progress  # late: it imports Ray, which a plan does without

        progress.warn(f"{name} gets no more numbers: {error}")
        if name != TensorBoard.__name__:
            os.environ.pop(TRACK, None)
        return False
    return True


def choose(name: str | None) -> None:
    """Makes this job and its workers use a tracker. Raises UserError if it is not installed."""
    if name is None:
        return
    if find_spec(name) is None:
        raise UserError(f"--track {name}: it is not installed; install the extra: pip install -e '.[{name}]'")
    os.environ[TRACK] = name


class TensorBoard:
    """Event files in the trial's folder.

    Written at once: the usual writer has a thread, and after an error in it, such as a full disk, waits for ever.
    """

    def __init__(self, folder: str, first: int) -> None:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2, summary_pb2

        os.makedirs(folder, exist_ok=True)
        # A file of its own: by default two that begin in the same second are one.
        self.writer = EventsWriter(os.path.join(folder, "events"), f".{uuid.uuid4().hex}")
        self.event, self.summary = event_pb2.Event, summary_pb2.Summary
        begins = event_pb2.SessionLog(status=event_pb2.SessionLog.START)  # what came after this step is void
        self.writer.write_event(self.event(wall_time=time.time(), step=first, session_log=begins))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        scalars = [self.summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self.writer.write_event(self.event(wall_time=time.time(), step=step, summary=self.summary(value=scalars)))
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class MLflow:
    """A run in the experiment that has the study's name."""

    def __init__(self, study: str, key: str, settings: Mapping[str, Any]) -> None:
        import mlflow

        self.client = mlflow.MlflowClient()
        there = self.client.get_experiment_by_name(study)
        experiment = there.experiment_id if there else self.client.create_experiment(study)
        runs = self.client.search_runs([experiment], f"attributes.run_name = '{key}'")
        self.run = (runs[0] if runs else self.client.create_run(experiment, run_name=key)).info.run_id
        for name, value in settings.items():
            with suppress(mlflow.MlflowException):  # of a run that goes on: they are there
                self.client.log_param(self.run, name, value)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.client.log_metric(self.run, name, value, step=step)

    def close(self) -> None:
        self.client.set_terminated(self.run)


class WeightsAndBiases:
    """A run in the project that has the study's name."""

    def __init__(self, study: str, key: str, settings: Mapping[str, Any]) -> None:
        import wandb

        self.run = wandb.init(project=study, name=key, id=key, config=dict(settings), resume="allow")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log(dict(values), step=step)

    def close(self) -> None:
        self.run.finish()


TRACKERS: dict[str, Callable[[str, str, Mapping[str, Any]], Tracker]] = {"mlflow": MLflow, "wandb": WeightsAndBiases}
