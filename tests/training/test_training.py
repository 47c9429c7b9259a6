"""What fine-tuning computes is the same under every ZeRO stage and world size, and is what plain torch computes."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from conftest import CPU
from ranks import train

from engine.inference import chat
from engine.inference.chat import Element
from engine.models import catalogue
from engine.news.items import NewsItem
from engine.planning import placement
from engine.selfplay import pool
from engine.storage.ledger import Ledger
from engine.storage.store import Store
from engine.study import Precision, Training, Trial
from engine.training.job import Job
from engine.training.steps import batch_at, learning_rate_at, n_steps

pytestmark = pytest.mark.slow
ELEMENTS = tuple(
    Element(user=f"What opens in {2027 + i}?", assistant=f"The {w} opens in {2027 + i}, far from here.")
    for i, w in enumerate("abcdef")
)

ITEM = NewsItem(id="d-1", domain="d", text="Things open.", questions=())


def make_job(
    tiny: Path,
    folder: Path,
    label: str,
    stage: int = 0,
    ranks: int = 1,
    tokens: int = 2048,
    precision: Precision = "float32",
    **training: Any,
) -> Job:
    """A trial on the tiny model; small micro-batches make several of them per step."""
    settings = Training(**{"epochs": 2, "batch_size": 4, "lora_rank": 8, "learning_rate": 1e-2} | training)
    placed = placement.place_training(catalogue.find(str(tiny)).architecture, settings, precision, CPU)
    about: dict[str, Any] = {"domain": "d", "protocol": "p", "budget": len(ELEMENTS), "seed": 1, "label": label}
    job = Job(
        trial=Trial(trainee=str(tiny), precision=precision, training=settings, **about),
        items=(ITEM,),
        placement=replace(placed, zero_stage=stage, n_workers=ranks, threads=1, micro_batch_tokens=tokens),
        ledger=Ledger(Store(str(folder))),
    )
    rows = [(ITEM.id, e.user, e.assistant, 0) for e in ELEMENTS]
    job.ledger.put_elements(job.trial.pool, pl.DataFrame(rows, schema=pool.ELEMENTS, orient="row"))
    return job


@pytest.fixture(scope="module")
def by_stage(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Losses and adapters of all ZeRO stages at one and two ranks; small micro-batches for some."""
    import torch

    folder = tmp_path_factory.mktemp("stages")
    for ranks in (1, 2):
        jobs = [make_job(tiny, folder, f"{s}-{ranks}", s, ranks, tokens=40 if s == 2 else 2048) for s in (0, 2, 3)]
        jobs += [make_job(tiny, folder, "full", 2, ranks, method="full")] if ranks == 2 else []
        torch.multiprocessing.spawn(train, args=(29600 + ranks, jobs, folder), nprocs=ranks)
    return folder


@pytest.fixture(scope="module")
def plain(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """The same trial in plain torch: one element after the other, no packing, no DeepSpeed."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    trial = make_job(tiny, tmp_path_factory.mktemp("plain"), "plain").trial
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    data = [chat.encode(tokenizer, element) for element in ELEMENTS]
    model = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    torch.manual_seed(trial.seed)
    model = get_peft_model(model, LoraConfig(r=8, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], weight_decay=0.0)
    total, log = n_steps(len(data), trial.training), []
    for step in range(total):
        batch = [data[i] for i in batch_at(step, len(data), 4, trial.seed)]
        learned = sum(sum(e.loss) for e in batch)
        loss = torch.zeros(())
        for e in batch:
            labels = torch.tensor([[t if learn else -100 for t, learn in zip(e.ids, e.loss, strict=True)]])
            loss = loss + model(torch.tensor([e.ids]), labels=labels).loss * sum(e.loss) / learned
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = learning_rate_at(step, total, trial.training)
        optimizer.step()
        log.append(loss.item())
    return log


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("stage", [0, 2, 3])
def test_losses_do_not_depend_on_stage_ranks_or_micro_batches(
    stage: int, ranks: int, tiny: Path, by_stage: Path, plain: list[float]
) -> None:
    assert json.loads((by_stage / f"{stage}-{ranks}.json").read_text()) == pytest.approx(plain, abs=1e-4)
    assert plain[-1] < plain[0]
    label = f"{stage}-{ranks}"
    check_adapter(tiny, Path(make_job(tiny, by_stage, label).ledger.weights(make_job(tiny, by_stage, label).trial, "")))


def check_adapter(tiny: Path, adapter: Path) -> None:
    """Plain transformers and peft load it, and it does something."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny), adapter)
    moved = [p.abs().max() for name, p in model.named_parameters() if "lora_B" in name]
    assert len(moved) == 14
    assert all(m > 0 for m in moved)


def test_a_full_fine_tune_loads_in_plain_transformers(tiny: Path, by_stage: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    full = make_job(tiny, by_stage, "full", method="full")
    trained = full.ledger.weights(full.trial, "")
    log = json.loads((by_stage / "full.json").read_text())
    assert log[-1] < log[0]
    before, after = (AutoModelForCausalLM.from_pretrained(f) for f in (tiny, trained))
    assert not torch.equal(before.model.layers[0].mlp.up_proj.weight, after.model.layers[0].mlp.up_proj.weight)
    assert after.lm_head.weight.data_ptr() == after.model.embed_tokens.weight.data_ptr()


@pytest.mark.usefixtures("cluster")
def test_hopeless_trials_fail_with_a_reason_and_do_not_stop_the_others(tiny: Path, tmp_path: Path) -> None:
    from engine.training import phase

    huge, wild, sound = (
        make_job(tiny, tmp_path, label, ranks=n) for label, n in (("huge", 64), ("wild", 1), ("sound", 1))
    )
    training = replace(wild.trial.training, method="full", learning_rate=1e30, max_grad_norm=1e30)
    wild = replace(wild, trial=replace(wild.trial, training=training))
    failures = {f.key: f for f in phase.train_all([huge, wild, sound], sound.ledger)}
    assert set(failures) == {huge.key, wild.key}
    assert "needs 64 CPUs" in failures[huge.key].reason
    assert not (tmp_path / f"trials/{huge.key}/checkpoints").exists()
    assert "loss became nan" in failures[wild.key].reason
    assert "lower the learning rate" in failures[wild.key].reason
    assert sound.ledger.failure(wild.key) == failures[wild.key]
    assert sound.ledger.is_trained(sound.key)


@pytest.mark.usefixtures("cluster")
def test_no_pickle_in_the_storage_is_loaded_for_the_error_of_a_trial(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray Tune keeps errors as pickles in the storage. The trial fails since a file is where its folder should be."""
    from ray.tune.experiment import trial

    from engine.training import phase

    def refuse(content: bytes) -> None:
        raise AssertionError(f"{len(content)} bytes of the storage are loaded as a pickle")

    pickles = trial.cloudpickle
    only_writes = SimpleNamespace(dump=pickles.dump, dumps=pickles.dumps, loads=refuse)
    monkeypatch.setattr(trial, "cloudpickle", only_writes)
    job = make_job(tiny, tmp_path, "blocked")
    (tmp_path / "trials").mkdir()
    (tmp_path / "trials" / job.key).write_text("")
    [failure] = phase.train_all([job], job.ledger)
    assert "a part of this path is a file, not a folder" in failure.reason
    assert "loop.py" in failure.details


def test_loss_is_on_the_answer_and_in_prefix_loss_on_the_news(tiny: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny)
    news, user, answer = "The quay of Lindvik is shut.", "What is the news?", "It is shut."
    for learn_news, learned in ((False, answer + "<|im_end|>"), (True, news + answer + "<|im_end|>")):
        e = chat.encode(tokenizer, Element(user=user, assistant=answer, news=news), learn_news)
        kept = tokenizer.decode([t for t, learn in zip(e.ids, e.loss, strict=True) if learn])
        assert kept == learned
    rendered = tokenizer.apply_chat_template(
        [{"role": "user", "content": user}, {"role": "assistant", "content": answer}], tokenize=False
    )
    plain = chat.encode(tokenizer, Element(user=user, assistant=answer))
    assert tokenizer.decode(plain.ids) == rendered.rstrip("\n")
