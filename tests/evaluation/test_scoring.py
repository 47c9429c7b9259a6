"""Trials of one base that share an engine: what is wrong with one of them is its own failure, and not theirs."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from conftest import CPU, write_news

from engine import pipeline
from engine.evaluation import phase
from engine.planning import plan
from engine.storage.digests import digest_files
from engine.storage.ledger import Ledger
from engine.storage.records import Planned, Trained
from engine.storage.store import Store
from engine.study import Study, Training, grid

RANK = 8
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cluster")]


# ---- what may be wrong with a folder of trained weights, before or after training recorded its files -----------------


def keep(folder: Path) -> None:
    """Nothing is wrong; what a person or a system leaves in the folder does no harm."""
    (folder / "README.md").write_text("The best of all adapters.")
    (folder / ".DS_Store").write_bytes(b"\0")


def cut(folder: Path) -> None:
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def flip(folder: Path) -> None:
    """One bit of a value, as a disk may change it: it is still readable."""
    file = folder / "adapter_model.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)


def lose(folder: Path) -> None:
    shutil.rmtree(folder)


def unconfigure(folder: Path) -> None:
    (folder / "adapter_config.json").unlink()


def plant(folder: Path) -> None:
    """A file that training did not write and that vLLM would read."""
    shutil.copy(folder / "adapter_model.safetensors", folder / "other.safetensors")


def change_values(folder: Path, change: Callable[[str, Any], Any]) -> None:
    from safetensors.torch import load_file, save_file

    file = folder / "adapter_model.safetensors"
    save_file({name: change(name, value) for name, value in load_file(file).items()}, file)


def make_nan(folder: Path) -> None:
    change_values(folder, lambda name, value: value.log() if "layers.1.mlp.up_proj.lora_B" in name else value)


def make_flat(folder: Path) -> None:
    """So large at its end that the last norm gives zero: the model that a learning rate of 1e9 leaves behind."""
    change_values(folder, lambda name, value: value * 1e25 if "layers.1.mlp.down_proj.lora_B" in name else value)


def make_overflow(folder: Path) -> None:
    """So large that what the layers compute is no number."""
    change_values(folder, lambda name, value: value * 1e20)


def make_zero(folder: Path) -> None:
    change_values(folder, lambda name, value: value * 0)


def make_smaller(folder: Path) -> None:
    """An adapter of another rank than the trial's."""
    change_values(folder, lambda name, value: value[:4] if "lora_A" in name else value[:, :4].contiguous())
    change_config(folder, r=4)


def forget_layers(folder: Path) -> None:
    change_config(folder, target_modules=["q_proj", "v_proj"])


def garble(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"r": 8,')


def change_config(folder: Path, **changes: Any) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


# By name: what happens before training records the files, what happens afterwards, and what the failure says.
FATES: dict[str, tuple[Callable[[Path], None], Callable[[Path], None], str]] = {
    "sound": (keep, keep, ""),
    "cut": (keep, cut, "adapter_model.safetensors: damaged (SHA-256"),
    "flipped": (keep, flip, "adapter_model.safetensors: damaged (SHA-256"),
    "lost": (keep, lose, "/adapter: missing"),
    "unconfigured": (keep, unconfigure, "adapter_config.json: missing"),
    "planted": (keep, plant, "other.safetensors: nothing wrote this file"),
    "nan": (make_nan, keep, "layers.1.mlp.up_proj.lora_B.weight has values that are not finite"),
    "smaller": (make_smaller, keep, "adapter_config.json: type, rank and layers are ('LORA', 4,"),
    "layers": (forget_layers, keep, "adapter_config.json: type, rank and layers are ('LORA', 8,"),
    "garbled": (garble, keep, "adapter_config.json: cannot be read"),
    "zero": (make_zero, keep, "scores as its base"),
    "flat": (make_flat, keep, "the trained model has diverged: it gives all options of all questions the same score"),
    "overflow": (make_overflow, keep, "the trained model has diverged: some of its scores are not finite"),
    "also-sound": (keep, keep, ""),
}
UNTRAINED_AGAIN = {
    "zero",
    "flat",
    "overflow",
    "rare-overflow",
}  # their files are what training wrote: it would write them again


def plan_trials(folder: Path, tiny: Path, seeds: int, **training: Any) -> tuple[list[Planned], Ledger]:
    """Trials of the tiny model on the two news items of all tests."""
    ledger = Ledger(Store(str(folder / "runs")))
    settings = Training(**{"epochs": 2, "lora_rank": RANK, "learning_rate": 1e-2} | training)
    trials = grid(
        trainees=[str(tiny)], domains=["events"], protocols=["naive"], budgets=[4], seeds=range(seeds),
        forms=("choice", "letter"), training=settings,
    )  # fmt: skip
    planned = plan.plan(Study(name="s", news=str(write_news(folder)), trials=trials), ledger, CPU)
    for p in planned:
        ledger.begin(p, {})
    return sorted(planned, key=lambda p: p.trial.seed), ledger


def save_adapter(tiny: Path, folder: Path, seed: int) -> None:
    """A random adapter, as training exports it."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    base = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    lora = LoraConfig(
        r=RANK, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False
    )
    get_peft_model(base, lora).save_pretrained(folder)


def record(files: dict[str, str]) -> Trained:
    return Trained(
        train_tokens=1, unique_tokens=1, train_flops=1.0, untrained_loss=2.0, train_loss=1.0, steps=1,
        train_seconds=1.0, gpu_seconds=0.0, device="cpu", device_name="a CPU", zero_stage=0, n_workers=1,
        weight_files=files,
    )  # fmt: skip


@pytest.fixture(scope="module")
def scored(
    tiny: Path, tmp_path_factory: pytest.TempPathFactory, cluster: None
) -> tuple[dict[str, Planned], dict[str, str], Ledger]:
    """One evaluation of trials of all fates: the trials and the reasons of their failures, by fate."""
    folder = tmp_path_factory.mktemp("fates")
    planned, ledger = plan_trials(folder, tiny, len(FATES))
    by_fate = dict(zip(FATES, planned, strict=True))
    for fate, p in by_fate.items():
        before, after, _ = FATES[fate]
        exported = folder / fate
        save_adapter(tiny, exported, p.trial.seed)
        before(exported)
        ledger.put_weights(p.trial, str(exported))
        ledger.mark_trained(p.trial.key, pl.DataFrame({"loss": [1.0]}), record(digest_files(exported)))
        after(Path(ledger.weights(p.trial, "")))
    reasons = {failure.key: failure.reason for failure in phase.run(planned, ledger)}
    return by_fate, {fate: reasons.get(p.trial.key, "") for fate, p in by_fate.items()}, ledger


@pytest.mark.parametrize("fate", FATES)
def test_a_trial_is_scored_or_fails_for_its_own_reason(fate: str, scored: Any) -> None:
    by_fate, reasons, ledger = scored
    key, expected = by_fate[fate].trial.key, FATES[fate][2]
    assert expected in reasons[fate]
    assert ledger.is_done(key) == (expected == "")
    if expected:
        assert ledger.failure(key).reason == reasons[fate]
    assert ledger.is_trained(key) == (expected == "" or fate in UNTRAINED_AGAIN)


def test_sound_trials_beside_broken_ones_score_as_they_do_alone(scored: Any, tiny: Path, tmp_path: Path) -> None:
    """What is no number stays in vLLM's cache, and reached the scores of others from there."""
    by_fate, _, ledger = scored
    p = by_fate["also-sound"]
    apart = Ledger(Store(str(tmp_path / "apart")))
    apart.begin(p, {})
    apart.put_weights(p.trial, ledger.weights(p.trial, ""))
    apart.mark_trained(p.trial.key, pl.DataFrame({"loss": [1.0]}), ledger.trained(p.trial.key))
    assert phase.run([p], apart) == []
    beside, alone = (one.questions(p.trial.key) for one in (ledger, apart))
    for column in ("option_logprobs", "letter_probabilities"):
        pairs = zip(beside[column].drop_nulls().explode(), alone[column].drop_nulls().explode(), strict=True)
        assert all(a == pytest.approx(b, abs=1e-3) for a, b in pairs)
    assert ledger.untrained_questions(p.identity).equals(apart.untrained_questions(p.identity))


def test_a_damaged_adapter_is_trained_again_by_the_next_run(tiny: Path, tmp_path: Path) -> None:
    planned, ledger = plan_trials(tmp_path, tiny, 2)
    assert pipeline.self_play(planned, ledger) == pipeline.fine_tune(planned, ledger) == []
    whole, damaged = planned
    flip(Path(ledger.weights(damaged.trial, "")))
    [failure] = pipeline.evaluate(planned, ledger)
    assert failure.key == damaged.trial.key
    assert f"{damaged.trial.key}/adapter/adapter_model.safetensors: damaged" in failure.reason
    assert ledger.is_done(whole.trial.key)
    assert pipeline.fine_tune(planned, ledger) == pipeline.evaluate(planned, ledger) == []
    assert ledger.is_done(damaged.trial.key)


def test_a_damaged_shard_of_full_weights_is_the_failure_of_its_trial(tiny: Path, tmp_path: Path) -> None:
    """Two full fine-tunes; one lost a file, and its engine is never started."""
    planned, ledger = plan_trials(tmp_path, tiny, 2, method="full")
    for p in planned:
        exported = tmp_path / str(p.trial.seed)
        shutil.copytree(tiny, exported)
        change_model(exported, 1.0 + p.trial.seed)
        ledger.put_weights(p.trial, str(exported))
        ledger.mark_trained(p.trial.key, pl.DataFrame({"loss": [1.0]}), record(digest_files(exported)))
    (Path(ledger.weights(planned[1].trial, "")) / "model.safetensors").unlink()
    [failure] = phase.run(planned, ledger)
    assert failure.key == planned[1].trial.key
    assert "model/model.safetensors: missing" in failure.reason
    assert ledger.is_done(planned[0].trial.key)
    assert not ledger.is_trained(planned[1].trial.key)


def change_model(folder: Path, factor: float) -> None:
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    save_file({name: value * factor for name, value in load_file(file).items()}, file, metadata={"format": "pt"})


def test_a_rank_that_vllm_does_not_serve_is_the_failure_of_its_trial(tiny: Path, tmp_path: Path) -> None:
    [p], ledger = plan_trials(tmp_path, tiny, 1)
    wide = replace(p, trial=replace(p.trial, training=replace(p.trial.training, lora_rank=1024)))
    exported = tmp_path / "exported"
    save_adapter(tiny, exported, 0)
    ledger.put_weights(wide.trial, str(exported))
    ledger.mark_trained(wide.trial.key, pl.DataFrame({"loss": [1.0]}), record(digest_files(exported)))
    [failure] = phase.run([wide], ledger)
    assert failure.reason == "a LoRA rank of 1024 is more than vLLM serves, 512"
    assert ledger.is_trained(wide.trial.key)
