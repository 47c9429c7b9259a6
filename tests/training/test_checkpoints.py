"""Half-done trials: training goes on bit for bit, or begins anew; what is in a checkpoint is never run as code."""

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
from ranks import train_in_two_goes, try_to_resume
from test_training import make_job

from engine.training.job import Job

pytestmark = pytest.mark.slow
LORA, FULL, BFLOAT16 = (0, 1, 2, 3), (0, 2, 3), (1, 3)  # under which ZeRO stages


def jobs_of(tiny: Path, folder: Path, ranks: int) -> list[Job]:
    """Trials whose labels are the test's parameters below."""
    lora = [make_job(tiny, folder, f"lora{s}-{ranks}", s, ranks, tokens=40) for s in LORA]
    full = [make_job(tiny, folder, f"full{s}-{ranks}", s, ranks, method="full") for s in FULL]
    bfloat16 = [make_job(tiny, folder, f"bfloat16{s}-{ranks}", s, ranks, precision="bfloat16") for s in BFLOAT16]
    return lora + full + bfloat16


@pytest.fixture(scope="module")
def two_goes(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Losses, checkpoints and weights of trials with and without an interruption, at one and two ranks."""
    import torch

    folder = tmp_path_factory.mktemp("goes")
    for ranks in (1, 2):
        args = (29610 + ranks, jobs_of(tiny, folder, ranks), folder)
        torch.multiprocessing.spawn(train_in_two_goes, args=args, nprocs=ranks)
    return folder


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize(
    "label", [f"lora{s}" for s in LORA] + [f"full{s}" for s in FULL] + [f"bfloat16{s}" for s in BFLOAT16]
)
def test_a_resumed_trial_computes_bit_for_bit_what_one_without_interruption_does(
    label: str, ranks: int, two_goes: Path
) -> None:
    losses = json.loads((two_goes / f"{label}-{ranks}.json").read_text())
    assert len(losses["whole"]) == 4
    assert losses["resumed"] == losses["whole"]
    [whole] = two_goes.glob(f"trials/*-{label}-{ranks}/*/*.safetensors")
    [resumed] = two_goes.glob(f"trials/*-{label}-{ranks}-resumed/*/*.safetensors")
    assert resumed.read_bytes() == whole.read_bytes()


def test_a_checkpoint_that_cannot_be_used_is_left_alone_by_all_ranks(tiny: Path, two_goes: Path) -> None:
    """Another ZeRO stage, another world size, one rank's file cut, changed or missing, a record of another version."""
    import torch

    kept = {
        "stage": two_goes / "lora2-2",
        "workers": two_goes / "lora3-1",
        "cut": spoil(two_goes, "cut", "rank1.safetensors", lambda content: content[:-1]),
        "changed": spoil(two_goes, "changed", "rank1.safetensors", lambda content: content[:-1] + b"!"),
        "missing": spoil(two_goes, "missing", "rank1.safetensors", lambda content: None),
        "version": spoil(two_goes, "version", "rank1.json", lambda content: content.replace(b"sha256", b"md5")),
        "record": spoil(two_goes, "record", "rank0.json", lambda content: content[:9]),
        "sound": two_goes / "lora3-2",
    }
    jobs = [make_job(tiny, two_goes, f"try-{name}", 3, 2, tokens=40) for name in kept]
    torch.multiprocessing.spawn(try_to_resume, args=(29613, jobs, list(kept.values()), two_goes), nprocs=2)
    found = {name: [json.loads((two_goes / f"try-{name}-rank{r}.json").read_text()) for r in (0, 1)] for name in kept}
    assert {name: [rank["steps"] for rank in ranks] for name, ranks in found.items()} == {
        name: [2, 2] if name == "sound" else [None, None] for name in kept
    }
    losses = {name: ranks[0]["loss"] for name, ranks in found.items()}
    assert losses.pop("sound") < min(losses.values()) == max(losses.values())


def spoil(two_goes: Path, name: str, file: str, change: Any) -> Path:
    """A copy of a sound checkpoint with one file changed, or removed where the change gives None."""
    folder = two_goes / f"spoiled-{name}"
    folder.mkdir()
    for source in (two_goes / "lora3-2").iterdir():
        content = change(source.read_bytes()) if source.name == file else source.read_bytes()
        if content is not None:
            (folder / source.name).write_bytes(content)
    return folder


class Malicious:
    """An object whose pickle creates a file when it is loaded."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.file),)


@pytest.mark.usefixtures("cluster")
def test_a_pickle_in_a_checkpoint_is_not_run_and_the_trial_begins_anew(tiny: Path, tmp_path: Path) -> None:
    """A checkpoint as DeepSpeed writes it, planted where Ray Train keeps the trial's own."""
    from engine.training import phase

    job, proof = make_job(tiny, tmp_path, "planted"), tmp_path / "executed"
    planted = tmp_path / "planted"
    (planted / "state").mkdir(parents=True)
    (planted / "losses.json").write_text("[]")
    (planted / "state/mp_rank_00_model_states.pt").write_bytes(pickle.dumps(Malicious(proof)))
    plant(job, planted)
    assert phase.train_all([job], job.ledger) == []
    assert not proof.exists()
    assert job.ledger.trained(job.key).steps == 4


def plant(job: Job, folder: Path) -> None:
    """Makes the folder's content the last checkpoint of a job, with Ray Train's own means."""
    import ray.train
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    def report() -> None:
        ray.train.report({"step": 0}, checkpoint=ray.train.Checkpoint.from_directory(folder))

    DataParallelTrainer(
        report,
        scaling_config=ray.train.ScalingConfig(num_workers=1, resources_per_worker={"CPU": 0.5}),
        run_config=ray.train.RunConfig(name="train", storage_path=job.ledger.train_address(job.key)),
    ).fit()


@pytest.mark.usefixtures("cluster")
def test_a_run_of_ray_train_goes_on_from_the_last_checkpoint(tiny: Path, two_goes: Path, tmp_path: Path) -> None:
    """The checkpoint of another test, with seconds by which its steps are recognised."""
    import polars as pl

    from engine.training import phase

    job, planted = make_job(tiny, tmp_path, "goes-on", tokens=40), tmp_path / "planted"
    shutil.copytree(two_goes / "lora0-1", planted)
    record = json.loads((planted / "rank0.json").read_text())
    for step in record["history"]["steps"]:
        step["seconds"] = 1234.5
    (planted / "rank0.json").write_text(json.dumps(record))
    plant(job, planted)
    assert phase.train_all([job], job.ledger) == []
    log = pl.read_parquet(tmp_path / f"trials/{job.key}/losses.parquet")
    assert (log["seconds"] == 1234.5).to_list() == [True, True, False, False]
    assert log["loss"].to_list() == json.loads((two_goes / "lora0-1.json").read_text())["whole"]
    assert job.ledger.trained(job.key).untrained_loss == record["history"]["untrained_loss"]


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("damage", ["snapshot", "folder"])
def test_a_trial_whose_list_of_checkpoints_is_damaged_begins_anew(damage: str, tiny: Path, tmp_path: Path) -> None:
    from engine.training import phase

    job, planted = make_job(tiny, tmp_path, damage), tmp_path / "planted"
    planted.mkdir()
    (planted / "rank0.json").write_text("{}")
    plant(job, planted)
    [snapshot] = tmp_path.glob("trials/*/train/*.json")
    [record] = tmp_path.glob("trials/*/train/checkpoint_*/rank0.json")
    if damage == "snapshot":
        snapshot.write_bytes(snapshot.read_bytes()[:20])
    else:
        record.unlink()
        record.parent.rmdir()
    assert phase.train_all([job], job.ledger) == []
    assert job.ledger.trained(job.key).steps == 4
