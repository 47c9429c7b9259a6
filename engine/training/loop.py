"""The training loop: one trial's replay elements into an adapter or full weights, with DeepSpeed.

What is trained at a step is a pure function of the step (`steps`). The elements of a micro-batch are packed into one
row without padding and without attention from one to another, and logits are computed only where there is loss. The
loss of a step is the mean over all its learned tokens, however many devices and micro-batches they are spread over, so
ZeRO stage and world size do not change it.
"""

import gc
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.integrations.deepspeed import HfDeepSpeedConfig
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from engine.inference import chat
from engine.inference.chat import Element, Encoded
from engine.monitor import progress
from engine.training import checkpoints, divergence, saving
from engine.training.divergence import Diverged
from engine.training.job import Job, replay
from engine.training.steps import (
    History,
    Step,
    batch_at,
    compared_steps,
    learning_rate_at,
    micro_batches,
    n_steps,
)


def fine_tune(job: Job, base: Any = None) -> Any:
    """One trial on each of its workers: builds, resumes, trains, exports.

    `base`: the untrained model, if the trial before this one left it. Gives it for the next trial, if it is as it was.
    """
    data = encode(job, replay(job))
    engine = build(job, base)
    try:
        complete(engine, job, data)
    except Diverged as why:
        saving.give_up(job, f"{why}; lower the learning rate ({job.trial.training.learning_rate:g})")
    return release(engine, job)


def complete(engine: Any, job: Job, data: Sequence[Encoded]) -> None:
    """Trains from the last checkpoint, or from the start, to what the trial leaves behind. Raises Diverged."""
    history = checkpoints.resume(engine, job) or History(untrained_loss=untrained_loss(engine, job, data))
    train_on(engine, job, data, history)
    files = saving.export(engine, job)
    if dist.get_rank() == 0:
        saving.finish(job, data, history, files)


def train_on(engine: Any, job: Job, data: Sequence[Encoded], history: History) -> None:
    """Trains from where the history ends to the last step. Raises Diverged on all ranks alike."""
    total, clock = n_steps(len(data), job.trial.training), checkpoints.Clock()
    if dist.get_rank() == 0:
        progress.report(work=len(history.steps) * job.trial.training.batch_size)
    with saving.tracked(job, first=len(history.steps)) as track:
        for step in train(engine, job, data, first=len(history.steps)):
            history.steps.append(step)
            track(step)
            if len(history.steps) < total and clock.is_due(engine):
                checkpoints.save(engine, job, history)
    divergence.check_weights(engine)
    divergence.check_loss(history, job.trial.training.epochs)


def train(engine: Any, job: Job, data: Sequence[Encoded], first: int = 0) -> Iterator[Step]:
    """Trains from step `first` on, and gives each step when it is done. Raises Diverged on all ranks alike."""
    training, total = job.trial.training, n_steps(len(data), job.trial.training)
    for step in range(first, total):
        began = time.monotonic()
        batch = batch_of(step, job, data)
        rate = learning_rate_at(step, total, training)
        loss = train_step(engine, job, batch, rate)
        tokens, seconds = sum(len(e.ids) for e in batch), time.monotonic() - began
        done = Step(step=step, loss=loss, learning_rate=rate, tokens=tokens, seconds=seconds)
        divergence.check_step(done, engine.skipped_steps)
        yield done


def batch_of(step: int, job: Job, data: Sequence[Encoded]) -> list[Encoded]:
    """The elements of a step."""
    return [data[i] for i in batch_at(step, len(data), job.trial.training.batch_size, job.trial.seed)]


@torch.no_grad()
def untrained_loss(engine: Any, job: Job, data: Sequence[Encoded]) -> float:
    """The loss (nats per learned token) before training, on batches that the last epoch trains on."""
    steps = compared_steps(n_steps(len(data), job.trial.training), job.trial.training.epochs)
    return sum(batch_loss(engine, job, batch_of(step, job, data)) for step in steps) / len(steps)


def encode(job: Job, elements: Iterable[Element]) -> list[Encoded]:
    """Replay elements as the trial's tokens."""
    tokenizer = AutoTokenizer.from_pretrained(job.folder)
    return [chat.encode(tokenizer, e, job.trial.context_mode == "prefix_loss") for e in elements]


# ---- the model -------------------------------------------------------------------------------------------------------


def build(job: Job, base: Any = None) -> Any:
    """The model (with adapters) inside a DeepSpeed engine; `base`: the untrained model, if it is loaded."""
    torch.manual_seed(job.trial.seed)
    config = deepspeed_config(job)
    model = load(job, config) if base is None else base
    if job.trial.training.method == "lora":
        model = with_adapter(model, job)
    # A shared-memory all-reduce that DeepSpeed compiles at first use: gloo does, and needs no compiler.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    trained, training = [p for p in model.parameters() if p.requires_grad], job.trial.training
    optimizer = torch.optim.AdamW(trained, lr=training.learning_rate, weight_decay=training.weight_decay)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    engine.train()
    return engine


def load(job: Job, config: dict[str, Any]) -> Any:
    """The trainee, with attention within each element of a packed row."""
    # Kept alive while the model loads: it makes from_pretrained shard the weights instead of loading them on each rank.
    sharded = HfDeepSpeedConfig(config) if job.placement.zero_stage == 3 else None
    ALL_ATTENTION_FUNCTIONS.register("packed", packed_attention)
    if job.placement.device == "cpu":
        torch.set_num_threads(job.placement.threads)
    dtype = getattr(torch, job.trial.precision)
    model = AutoModelForCausalLM.from_pretrained(
        job.folder, dtype=dtype, attn_implementation="packed", use_safetensors=True
    )
    if sharded:
        restore_rotary(model)
    if job.placement.recompute:
        model.gradient_checkpointing_enable()
        if job.trial.training.method == "lora":
            model.enable_input_require_grads()
    return model


def restore_rotary(model: Any) -> None:
    """Makes the rotary frequencies float32 again: ZeRO 3 loads every tensor in the model's precision, these too.

    In bfloat16 the angles would be off by up to half a radian at 500 tokens, in training alone.
    """
    model.model.rotary_emb = type(model.model.rotary_emb)(model.config)


def release(engine: Any, job: Job) -> Any:
    """Frees what a trial took; gives the untrained model, or None where it is not left (full weights, ZeRO 3)."""
    model = engine.module
    engine.destroy()
    del engine
    gc.collect()  # cycles hold the optimizer's state
    if job.trial.training.method == "full" or job.placement.zero_stage == 3:
        return None
    return model.unload()


def with_adapter(model: Any, job: Job) -> Any:
    """LoRA on all linear layers, from a seed of its own: how the base was loaded must not change the start."""
    torch.manual_seed(job.trial.seed)
    rank, alpha = job.trial.training.lora_rank, job.trial.training.lora_alpha
    lora = LoraConfig(r=rank, lora_alpha=alpha, target_modules="all-linear", task_type="CAUSAL_LM")
    # In the model's precision under every ZeRO stage; AdamW has them in float32 beside it.
    return get_peft_model(model, lora, autocast_adapter_dtype=False)


def deepspeed_config(job: Job) -> dict[str, Any]:
    """DeepSpeed's settings for the trial. The batch size is nominal: micro-batches are cut by tokens, here."""
    stage = job.placement.zero_stage
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": job.trial.training.max_grad_norm,
        "zero_optimization": {"stage": stage, "stage3_gather_16bit_weights_on_model_save": True},
        "bf16": {"enabled": job.trial.precision == "bfloat16"},
        "communication_data_type": "fp32",  # of gradients between ranks: their sum is not rounded to bfloat16
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 2**31,
    }


# ---- one step --------------------------------------------------------------------------------------------------------


def train_step(engine: Any, job: Job, batch: Sequence[Encoded], learning_rate: float) -> float:
    """One optimizer step on the batch; its loss in nats per learned token, over all ranks."""
    for group in engine.optimizer.param_groups:
        group["lr"] = learning_rate
    ranks, mine, learned = dist.get_world_size(), share_of(job, batch), sum(sum(e.loss) for e in batch)
    total = torch.zeros((), device=engine.device)
    for i, row in enumerate(mine):
        engine.set_gradient_accumulation_boundary(i == len(mine) - 1)
        loss = loss_sum(engine, row or batch[:1])
        # DeepSpeed averages gradients over ranks; an empty share still takes part, with nothing.
        engine.backward(loss * (ranks / learned if row else 0.0))
        total += loss.detach() if row else 0.0
        progress.report(tokens=sum(len(e.ids) for e in row), work=len(row))
    engine.step()
    dist.all_reduce(total)
    return float(total) / learned


def batch_loss(engine: Any, job: Job, batch: Sequence[Encoded]) -> float:
    """The loss that a step on the batch would give, without the step."""
    total = torch.zeros((), device=engine.device)
    for row in share_of(job, batch):
        loss = loss_sum(engine, row or batch[:1])
        total += loss if row else 0.0
    dist.all_reduce(total)
    return float(total) / sum(sum(e.loss) for e in batch)


def share_of(job: Job, batch: Sequence[Encoded]) -> list[list[Encoded]]:
    """This rank's micro-batches of a batch."""
    return micro_batches(batch, dist.get_world_size(), job.placement.micro_batch_tokens)[dist.get_rank()]


def loss_sum(engine: Any, row: Sequence[Encoded]) -> Any:
    """Summed negative log-likelihood (nats) of the learned tokens of elements packed into one row.

    Positions begin anew with each element; its first token is never learned (it begins the chat template).
    """
    device, lengths = engine.device, [len(e.ids) for e in row]
    ids = torch.tensor([[t for e in row for t in e.ids]], device=device)
    positions = torch.tensor([[p for n in lengths for p in range(n)]], device=device)
    places = torch.tensor([learn for e in row for learn in e.loss], device=device).nonzero()[:, 0]
    out = engine(input_ids=ids, position_ids=positions, use_cache=False, logits_to_keep=places - 1, lengths=lengths)
    return torch.nn.functional.cross_entropy(out.logits[0].float(), ids[0, places], reduction="sum")


def packed_attention(
    module: Any, query: Any, key: Any, value: Any, mask: None, *, scaling: float, lengths: list[int], **_: Any
) -> tuple[Any, None]:
    """Causal attention within each of the elements packed into a row; tensors are [1, heads, tokens, width].

    A mask over the whole row would compute all pairs of tokens only to discard most: a fifth of the step's time.
    """
    apart = zip(*(t.split(lengths, dim=2) for t in (query, key, value)), strict=True)
    attend = torch.nn.functional.scaled_dot_product_attention
    outputs = [attend(q, k, v, is_causal=True, scale=scaling, enable_gqa=True) for q, k, v in apart]
    return torch.cat(outputs, dim=2).transpose(1, 2).contiguous(), None
