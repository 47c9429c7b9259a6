"""A trial's numbers reach TensorBoard's files and a real MLflow; a tracker that fails does no harm."""

import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import UserError
from engine.monitor import progress, trackers
from engine.storage.ledger import Ledger
from engine.storage.store import Store
from engine.study import Training, Trial

TRIAL = Trial(trainee="smollm2-135m", domain="events", protocol="naive", training=Training(learning_rate=5e-4))
ROOT = Path(__file__).parents[2]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(Store(str(tmp_path / "study")))


def train(ledger: Ledger, steps: range) -> None:
    with trackers.tracking(ledger, TRIAL, steps.start) as log:
        for step in steps:
            log(step, {"loss": 10.0 - step})


def read_events(folder: Path) -> Iterator[tuple[int, str, float]]:
    """Step, name and value of all scalars; a record is its length, a checksum, the event, a checksum."""
    from tensorboardX.proto.event_pb2 import Event

    for file in sorted(folder.iterdir()):
        content = file.read_bytes()
        while content:
            [size] = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + size])
            content = content[16 + size :]
            yield from ((event.step, value.tag, value.simple_value) for value in event.summary.value)


def test_tensorboard_has_each_step_of_a_trial_that_was_interrupted(ledger: Ledger, tmp_path: Path) -> None:
    train(ledger, range(0, 2))
    train(ledger, range(2, 4))
    events = sorted(read_events(tmp_path / f"study/trials/{TRIAL.key}/events"))
    assert events == [(step, "loss", 10.0 - step) for step in range(4)]


def test_on_an_object_store_the_files_are_kept_when_the_trial_ends() -> None:
    ledger = Ledger(Store("memory://bucket/events-study"))
    train(ledger, range(3))
    [name] = ledger.store.names(f"trials/{TRIAL.key}/events")
    assert name.startswith("events.out")


def test_mlflow_has_one_run_for_a_trial_with_its_settings(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/mlruns")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv(trackers.TRACK, "mlflow")
    mlflow.set_tracking_uri(f"file://{tmp_path}/mlruns")
    train(ledger, range(0, 2))
    train(ledger, range(2, 4))
    client = mlflow.MlflowClient()
    [run] = client.search_runs([client.get_experiment_by_name("study").experiment_id])
    assert run.info.run_name == TRIAL.key
    assert (run.data.params["learning_rate"], run.data.params["protocol"]) == ("0.0005", "naive")
    assert [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "loss")] == [
        (step, 10.0 - step) for step in range(4)
    ]


def test_a_tracker_that_fails_is_given_up_with_a_warning(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each further step might wait for it as long as the first."""
    asked: list[int] = []
    warnings: list[str] = []

    class Failing:
        def __init__(self, study: str, key: str, settings: object) -> None: ...

        def log(self, step: int, values: object) -> None:
            asked.append(step)
            raise ConnectionError("no server")

        def close(self) -> None: ...

    monkeypatch.setitem(trackers.TRACKERS, "mlflow", Failing)
    monkeypatch.setenv(trackers.TRACK, "mlflow")
    monkeypatch.setattr(progress, "warn", warnings.append)
    train(ledger, range(3))
    train(ledger, range(3, 6))
    assert asked == [0]
    assert warnings == ["Failing gets no more numbers: no server"]
    events = sorted(read_events(tmp_path / f"study/trials/{TRIAL.key}/events"))
    assert events == [(step, "loss", 10.0 - step) for step in range(6)]


def test_a_tracker_that_is_not_installed_is_refused_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"--track wandb: it is not installed; install the extra: .*\[wandb\]"):
        trackers.choose("wandb")


def test_a_plan_does_without_any_tracker() -> None:
    code = "import sys, cli; sys.exit(any(name in sys.modules for name in ('mlflow', 'wandb', 'tensorboardX')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT / "jobs", check=False).returncode == 0
