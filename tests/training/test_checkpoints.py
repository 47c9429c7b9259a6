"""Half-done trials: training goes on bit for bit, or begins anew; what is in a checkpoint is never run as code."""

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from ranks import train_in_two_goes, try_to_resume
from test_training import make_job

from engine.training.job import Job

pytestmark = pytest.mark.slow
SECONDS = 1234.5
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
def test_trials_go_on_from_their_last_checkpoint_or_begin_anew(tiny: Path, two_goes: Path, tmp_path: Path) -> None:
    """Real workers on checkpoints of another test, whose steps are recognised by their seconds, and on spoiled ones."""
    from engine.training import phase

    sound, planted = copy_with_seconds(two_goes / "lora0-1", tmp_path / "sound"), tmp_path / "executed"
    pickled = tmp_path / "pickled"
    (pickled / "state").mkdir(parents=True)
    (pickled / "state/mp_rank_00_model_states.pt").write_bytes(pickle.dumps(Malicious(planted)))
    jobs = {name: make_job(tiny, tmp_path, name, tokens=40) for name in ("goes-on", "pickle", "cut", "missing")}
    for name, job in jobs.items():
        job.ledger.put_checkpoint(job.key, 2, 0, str(pickled if name == "pickle" else sound))
        job.ledger.finish_checkpoint(job.key, 2)
    checkpoints = {name: tmp_path / f"trials/{job.key}/checkpoints" for name, job in jobs.items()}
    (checkpoints["cut"] / "last.json").write_text('{"st')
    shutil.rmtree(checkpoints["missing"] / "2-rank0")

    assert phase.train_all(list(jobs.values()), jobs["cut"].ledger) == []
    assert not planted.exists()
    whole = json.loads((two_goes / "lora0-1.json").read_text())["whole"]
    for name, job in jobs.items():
        log = pl.read_parquet(tmp_path / f"trials/{job.key}/losses.parquet")
        assert (log["seconds"] == SECONDS).to_list() == [name == "goes-on"] * 2 + [False] * 2
        assert log["loss"].to_list() == whole
        assert not checkpoints[name].exists()
    assert jobs["goes-on"].ledger.trained(jobs["goes-on"].key).untrained_loss == 20.0


def copy_with_seconds(checkpoint: Path, to: Path) -> Path:
    """A copy of a checkpoint whose steps all took SECONDS."""
    shutil.copytree(checkpoint, to)
    record = json.loads((to / "rank0.json").read_text())
    for step in record["history"]["steps"]:
        step["seconds"] = SECONDS
    (to / "rank0.json").write_text(json.dumps(record))
    return to


def test_a_checkpoint_counts_when_all_ranks_have_kept_their_parts(tiny: Path, tmp_path: Path) -> None:
    job, part = make_job(tiny, tmp_path, "parts"), tmp_path / "part"
    part.mkdir()
    (part / "rank0.json").write_text("1")
    ledger, kept = job.ledger, tmp_path / f"trials/{job.key}/checkpoints"
    for step in (5, 50):
        before = ledger.checkpoint(job.key, 1, "")
        for rank in (0, 1):
            ledger.put_checkpoint(job.key, step, rank, str(part))
        assert ledger.checkpoint(job.key, 1, "") == before
        ledger.finish_checkpoint(job.key, step)
        assert ledger.checkpoint(job.key, 1, "") == str(kept / f"{step}-rank1")
        assert sorted(f.name for f in kept.iterdir()) == [f"{step}-rank0", f"{step}-rank1", "last.json"]
    ledger.clear_checkpoints(job.key)
    assert ledger.checkpoint(job.key, 1, "") is None


def test_training_without_ray_train_asks_for_no_notice() -> None:
    """As the benchmark does, however long it takes."""
    from engine.training.checkpoints import Clock

    assert not Clock().is_warned(float("inf"))
