"""A training that made the model worse fails with its own reason; what it is compared with is the untrained model."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ranks import compare_untrained
from test_training import make_job

from engine.training.job import Job
from engine.training.steps import N_COMPARED, History, Step, compared_steps


@given(in_epoch=st.integers(1, 300), epochs=st.integers(1, 9))
def test_what_is_compared_is_spread_over_the_last_epoch(in_epoch: int, epochs: int) -> None:
    steps = compared_steps(in_epoch * epochs, epochs)
    assert len(set(steps)) == min(in_epoch, N_COMPARED)
    assert all(in_epoch * (epochs - 1) <= step < in_epoch * epochs for step in steps)
    if in_epoch <= N_COMPARED:
        assert steps == list(range(in_epoch * (epochs - 1), in_epoch * epochs))


def history(untrained: float, *losses: float) -> History:
    steps = [Step(step=i, loss=loss, learning_rate=1e-3, tokens=1, seconds=1.0) for i, loss in enumerate(losses)]
    return History(untrained_loss=untrained, steps=steps)


@pytest.mark.parametrize(("last", "diverged"), [(2.0, False), (3.4, False), (3.6, True), (10.8, True)])
def test_a_loss_above_the_untrained_one_by_more_than_the_margin_is_a_failure(last: float, diverged: bool) -> None:
    from engine.training.divergence import Diverged, check_loss

    trained = history(3.0, 9.0, 9.0, last - 0.1, last + 0.1)
    if diverged:
        with pytest.raises(Diverged, match=rf"{last:.3g} nats per token after training and was 3 before"):
            check_loss(trained, epochs=2)
    else:
        check_loss(trained, epochs=2)


@pytest.mark.parametrize(
    ("loss", "skipped", "what"), [(math.nan, 0, "loss became nan"), (2.0, 1, "a gradient was not")]
)
def test_a_step_without_a_loss_or_without_a_gradient_is_a_failure(loss: float, skipped: int, what: str) -> None:
    """DeepSpeed leaves out a step whose gradient is not finite: the model stays as it was, without a word."""
    from engine.training.divergence import Diverged, check_step

    [step] = history(3.0, loss).steps
    with pytest.raises(Diverged, match=rf"{what}.* at step 0"):
        check_step(step, skipped)


@pytest.mark.parametrize(("weight", "fault"), [(9e3, None), (-2e4, "became 20000"), (math.nan, "became inf")])
def test_a_weight_that_exploded_is_a_failure(weight: float, fault: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from engine.training import divergence

    monkeypatch.setattr(divergence.dist, "all_reduce", lambda tensor, op: None)  # one rank
    parameters = [torch.nn.Parameter(torch.tensor([1.0, weight])), torch.nn.Parameter(torch.zeros(0))]
    engine = SimpleNamespace(
        optimizer=torch.optim.AdamW(parameters), zero_optimization_stage=lambda: 0, device=torch.device("cpu")
    )
    if fault:
        with pytest.raises(divergence.Diverged, match=f"a trained weight {fault}"):
            divergence.check_weights(engine)
    else:
        divergence.check_weights(engine)


@pytest.mark.slow
def test_the_untrained_loss_is_that_of_the_steps_before_any_update(tiny: Path, tmp_path: Path) -> None:
    """Under each ZeRO stage; measuring it changes no loss of the training that follows."""
    import torch

    for ranks in (1, 2):
        jobs = [make_job(tiny, tmp_path, f"{s}-{ranks}", s, ranks, tokens=40, epochs=1) for s in (0, 2, 3)]
        torch.multiprocessing.spawn(compare_untrained, args=(29620 + ranks, jobs, tmp_path), nprocs=ranks)
        for job in jobs:
            found = json.loads((tmp_path / f"{job.trial.label}.json").read_text())
            assert found["measured"] == pytest.approx(found["without_updates"], abs=1e-5)
            assert found["losses"] == found["losses_unmeasured"]


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_diverged_trials_fail_with_their_own_reason_and_are_tried_again_by_a_rerun(tiny: Path, tmp_path: Path) -> None:
    from engine.training import phase

    worse = make_job(tiny, tmp_path, "worse", method="full", learning_rate=1.0, schedule="constant", epochs=6)
    exploded = make_job(tiny, tmp_path, "exploded", stage=1, learning_rate=1e9, epochs=6)
    sound = make_job(tiny, tmp_path, "sound")
    failures = {f.key: f.reason for f in phase.train_all([worse, exploded, sound], sound.ledger)}
    assert set(failures) == {worse.key, exploded.key}
    assert "nats per token after training and was 12" in failures[worse.key]
    assert "a gradient was not finite at step 1" in failures[exploded.key]
    assert failures[exploded.key].endswith("lower the learning rate (1e+09)")
    for job in (worse, exploded):
        assert not job.ledger.is_trained(job.key)
        assert not (tmp_path / f"trials/{job.key}/checkpoints").exists()
    check_sound(sound)
    # What `pipeline.run_phase` does before each phase; the rerun begins anew and gets the same reason.
    worse.ledger.clear_failure(worse.key, "fine-tune")
    [again] = phase.train_all([worse], worse.ledger)
    assert again.reason == failures[worse.key]


def check_sound(job: Job) -> None:
    """It learned: the record says how much."""
    record = job.ledger.trained(job.key)
    assert record.train_loss < record.untrained_loss - 1
    assert set(record.weight_files) >= {"adapter_config.json", "adapter_model.safetensors"}
