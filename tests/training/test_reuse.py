"""A worker that has trained other trials trains the next one as a fresh worker would: to the last digit."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from ranks import train_in_one_process
from test_training import make_job

from engine.training.job import Job

pytestmark = pytest.mark.slow
PLACES: list[tuple[int, int, str]] = [(0, 1, "float32"), (1, 1, "bfloat16"), (2, 2, "float32"), (3, 2, "float32")]


def losses(job: Job) -> list[float]:
    return pl.read_parquet(job.ledger.store.address(f"trials/{job.key}/losses.parquet"))["loss"].to_list()


def weights(job: Job) -> bytes:
    return Path(job.ledger.weights(job.trial, ""), "adapter_model.safetensors").read_bytes()


@pytest.mark.parametrize(("stage", "ranks", "precision"), PLACES)
def test_what_a_worker_trained_before_changes_nothing(
    stage: int, ranks: int, precision: Any, tiny: Path, tmp_path: Path
) -> None:
    import torch

    folders = {name: tmp_path / name for name in ("fresh", "reused")}
    made: dict[str, Job] = {
        name: make_job(tiny, folder, "same", stage, ranks, tokens=40, precision=precision)
        for name, folder in folders.items()
    }
    others = [
        make_job(tiny, tmp_path, "first", stage, ranks, precision=precision, lora_rank=16, learning_rate=3e-2),
        make_job(tiny, tmp_path, "broken", stage, ranks, precision=precision, learning_rate=1e9, epochs=3),
        make_job(tiny, tmp_path, "second", stage, ranks, precision=precision, weight_decay=0.1),
    ]
    for i, jobs in enumerate(([made["fresh"]], [*others, made["reused"]])):
        args = (29630 + 10 * stage + i, jobs, tmp_path)
        torch.multiprocessing.spawn(train_in_one_process, args=args, nprocs=ranks)
    assert others[1].ledger.failure(others[1].key) is not None
    assert losses(made["reused"]) == losses(made["fresh"])
    assert weights(made["reused"]) == weights(made["fresh"])
