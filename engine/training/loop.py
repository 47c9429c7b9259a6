"""Fine-tuning: one trial's replay elements into an adapter or full weights, with DeepSpeed under Ray Train.

    python jobs/finetune.py --study quickstart --trial events-paraphrase-smollm2-135m-n4-s0

What is trained at a step is a pure function of the step: which elements (`batch_at`), at which learning rate
(`learning_rate_at`). The elements of a micro-batch are packed into one row without padding and without attention from
one to another, and logits are computed only where there is loss. The loss of a step is the mean over all its learned
tokens, however many devices and micro-batches they are spread over, so ZeRO stage and world size do not change it.
"""

import json
import math
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from engine import chat, cost, models, progress, weights
from engine.chat import Encoded
from engine.cost import Profile
from engine.store import Store
from engine.study import Precision, Training

N_CHECKPOINTS = 4  # a killed trial repeats at most this fraction of its steps


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """All that a worker needs. `elements`: (user, assistant, news in front of it or None)."""

    key: str
    trainee: str
    elements: tuple[tuple[str, str, str | None], ...]
    learn_news: bool
    training: Training
    precision: Precision
    seed: int
    profile: Profile
    store: Store

    @property
    def folder(self) -> str:
        """The trainee's weights on the machine that asks; each machine pulls them once."""
        return str(weights.pull(models.find(self.trainee)))


# ---- what is trained when: pure --------------------------------------------------------------------------------------


def n_steps(n_elements: int, training: Training) -> int:
    """Optimizer steps of the whole trial; the last batch of an epoch may be smaller."""
    return training.epochs * math.ceil(n_elements / training.batch_size)


def batch_at(step: int, n_elements: int, batch_size: int, seed: int) -> list[int]:
    """The elements of a step: each epoch is a shuffle of its own, from the seed and the epoch alone."""
    epoch, place = divmod(step, math.ceil(n_elements / batch_size))
    order = list(range(n_elements))
    random.Random(f"{seed}/{epoch}").shuffle(order)
    return order[place * batch_size : (place + 1) * batch_size]


def learning_rate_at(step: int, total: int, training: Training) -> float:
    """Linear warm-up, then constant or a half cosine down to zero after the last step."""
    warm = math.ceil(training.warmup * total)
    if step < warm:
        return training.learning_rate * (step + 1) / warm
    if training.schedule == "constant":
        return training.learning_rate
    return training.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(total - warm, 1)))


def pack(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Indices grouped in order into rows of at most `most` tokens; a longer element is a row of its own."""
    rows: list[list[int]] = []
    room = 0
    for i, length in enumerate(lengths):
        if not rows or length > room:
            rows.append([])
            room = most
        rows[-1].append(i)
        room -= length
    return rows


def micro_batches(batch: Sequence[Encoded], n_ranks: int, most: int) -> list[list[list[Encoded]]]:
    """A step's elements as rows a rank: `[rank][micro-batch][element]`, equally many micro-batches for all.

    Every rank takes part in every collective, so one that has nothing left gets an empty micro-batch.
    """
    shares = [batch[rank::n_ranks] for rank in range(n_ranks)]
    rows = [[[share[i] for i in row] for row in pack([len(e.ids) for e in share], most)] for share in shares]
    longest = max(len(r) for r in rows)
    return [r + [[]] * (longest - len(r)) for r in rows]


# ---- the worker ------------------------------------------------------------------------------------------------------


def fine_tune(job: Job) -> None:
    """Ray Train's loop on each worker: builds, resumes, trains, checkpoints, exports."""
    import ray.train

    batches = encoded(job)
    engine = build(job)
    total = n_steps(len(batches), job.training)
    losses = resume(engine)
    for step in range(len(losses), total):
        began = time.monotonic()
        batch = [batches[i] for i in batch_at(step, len(batches), job.training.batch_size, job.seed)]
        rate = learning_rate_at(step, total, job.training)
        loss = train_step(engine, job, batch, rate)
        if not math.isfinite(loss):
            give_up(job, step, loss)
            return
        tokens, seconds = sum(len(e.ids) for e in batch), time.monotonic() - began
        losses.append({"step": step, "loss": loss, "learning_rate": rate, "tokens": tokens, "seconds": seconds})
        if is_checkpoint(step, total):
            save(engine, losses)
    export(engine, job)
    if ray.train.get_context().get_world_rank() == 0:
        finish(job, batches, losses)


def encoded(job: Job) -> list[Encoded]:
    """The replay elements as tokens."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(job.folder)
    return [chat.encode(tokenizer, user, assistant, news, job.learn_news) for user, assistant, news in job.elements]


def build(job: Job) -> Any:
    """The model (with adapters) inside a DeepSpeed engine."""
    import deepspeed
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.integrations.deepspeed import HfDeepSpeedConfig
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    torch.manual_seed(job.seed)
    if job.profile.device == "cpu":
        torch.set_num_threads(job.profile.threads)
    config = deepspeed_config(job)
    # Kept alive while the model loads: it makes from_pretrained shard the weights instead of loading them on each rank.
    sharded = HfDeepSpeedConfig(config) if job.profile.zero_stage == 3 else None
    ALL_ATTENTION_FUNCTIONS.register("packed", packed_attention)
    model = AutoModelForCausalLM.from_pretrained(
        job.folder, dtype=getattr(torch, job.precision), attn_implementation="packed"
    )
    del sharded
    if job.profile.checkpoint_activations:
        model.gradient_checkpointing_enable()
    if job.training.method == "lora":
        model = with_adapter(model, job)
    # A shared-memory all-reduce that DeepSpeed compiles at first use: gloo does, and needs no compiler.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=job.training.learning_rate, weight_decay=job.training.weight_decay)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    engine.train()
    return engine


def with_adapter(model: Any, job: Job) -> Any:
    """LoRA on all linear layers, of a seed of its own: how the base was loaded must not change the start."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(job.seed)
    lora = LoraConfig(
        r=job.training.lora_rank, lora_alpha=job.training.lora_alpha, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    if job.profile.checkpoint_activations:
        model.enable_input_require_grads()
    return get_peft_model(model, lora)


def deepspeed_config(job: Job) -> dict[str, Any]:
    """DeepSpeed's settings for the trial. The batch size is nominal: micro-batches are cut by tokens, here."""
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": job.training.max_grad_norm,
        "zero_optimization": {"stage": job.profile.zero_stage, "stage3_gather_16bit_weights_on_model_save": True},
        "bf16": {"enabled": job.precision == "bfloat16"},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 2**31,
    }


def train_step(engine: Any, job: Job, batch: Sequence[Encoded], learning_rate: float) -> float:
    """One optimizer step on the batch; its loss in nats a learned token, over all ranks."""
    import torch
    import torch.distributed as dist

    for group in engine.optimizer.param_groups:
        group["lr"] = learning_rate
    ranks = dist.get_world_size()
    mine = micro_batches(batch, ranks, job.profile.micro_batch_tokens)[dist.get_rank()]
    learned = sum(sum(e.loss) for e in batch)
    total = torch.zeros((), device=engine.device)
    for i, row in enumerate(mine):
        engine.set_gradient_accumulation_boundary(i == len(mine) - 1)
        loss = loss_sum(engine, row or batch[:1])
        # DeepSpeed averages gradients over ranks; an empty share still takes part, with nothing.
        engine.backward(loss * (ranks / learned if row else 0.0))
        total += loss.detach() if row else 0.0
        progress.report(tokens=sum(len(e.ids) for e in row))
    engine.step()
    dist.all_reduce(total)
    return float(total) / learned


def loss_sum(engine: Any, row: Sequence[Encoded]) -> Any:
    """Summed negative log-likelihood (nats) of the learned tokens of elements packed into one row.

    Positions begin anew with each element; no element's first token is ever learned (it begins the chat template).
    """
    import torch

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

    A mask over the whole row would compute all pairs of tokens only to throw most away: a fifth of the step's time.
    """
    import torch

    apart = zip(*(t.split(lengths, dim=2) for t in (query, key, value)), strict=True)
    attend = torch.nn.functional.scaled_dot_product_attention
    seen = [attend(q, k, v, is_causal=True, scale=scaling, enable_gqa=True) for q, k, v in apart]
    return torch.cat(seen, dim=2).transpose(1, 2).contiguous(), None


# ---- checkpoints and results -----------------------------------------------------------------------------------------


def is_checkpoint(step: int, total: int) -> bool:
    """Is the state saved after this step? A few times a trial, never after the last step: then comes the result."""
    return (step + 1) % max(total // N_CHECKPOINTS, 1) == 0 and step + 1 < total


def save(engine: Any, losses: list[dict[str, float]]) -> None:
    """A checkpoint of the trained parameters, the optimizer and the loss log, from all ranks at once."""
    import ray.train

    with tempfile.TemporaryDirectory() as folder:
        engine.save_checkpoint(folder, tag="state", exclude_frozen_parameters=True)
        if ray.train.get_context().get_world_rank() == 0:
            Path(folder, "losses.json").write_text(json.dumps(losses))
        ray.train.report({"step": len(losses)}, checkpoint=ray.train.Checkpoint.from_directory(folder))


def resume(engine: Any) -> list[dict[str, float]]:
    """Loads the last checkpoint if there is one; gives the loss log so far, one entry a step that is done."""
    import ray.train

    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return []
    with checkpoint.as_directory() as folder:
        engine.load_checkpoint(folder, tag="state", load_module_strict=False)
        return list(json.loads(Path(folder, "losses.json").read_text()))


def give_up(job: Job, step: int, loss: float) -> None:
    """Ends the trial with a reason, on all ranks alike; a retry would be wasted."""
    reason = f"loss became {loss} at step {step}; lower the learning rate ({job.training.learning_rate:g})"
    job.store.write_json(f"trials/{job.key}/failure.json", {"reason": reason})


def export(engine: Any, job: Job) -> None:
    """Writes the adapter, or the full model, as plain transformers and vLLM load it."""
    import torch.distributed as dist

    name = "adapter" if job.training.method == "lora" else "model"
    state = whole_state(engine, job)
    if dist.get_rank() == 0:
        from transformers import AutoTokenizer

        with tempfile.TemporaryDirectory() as folder:
            engine.module.save_pretrained(folder, state_dict=state)
            if name == "model":
                AutoTokenizer.from_pretrained(job.folder).save_pretrained(folder)
            job.store.put_folder(folder, f"trials/{job.key}/{name}")
    dist.barrier()


def whole_state(engine: Any, job: Job) -> dict[str, Any] | None:
    """The trained parameters gathered from all ranks (ZeRO 3); None where each rank holds them whole."""
    if job.profile.zero_stage < 3:
        return None
    lora = job.training.method == "lora"
    state: dict[str, Any] | None = engine._zero3_consolidated_16bit_state_dict(exclude_frozen_parameters=lora)
    return state


def finish(job: Job, batches: Sequence[Encoded], losses: list[dict[str, float]]) -> None:
    """The loss log, then the mark that the trial is trained."""
    job.store.write_table(f"trials/{job.key}/losses.parquet", pl.DataFrame(losses))
    last_epoch = losses[-(len(losses) // job.training.epochs) :]
    tokens, lengths = int(sum(e["tokens"] for e in losses)), [len(e.ids) for e in batches]
    seconds, context = sum(e["seconds"] for e in losses), sum(n * n for n in lengths) / sum(lengths) / 2
    trained = {
        "train_tokens": tokens,
        "unique_tokens": sum(len(ids) for ids in {tuple(e.ids) for e in batches}),
        "train_flops": cost.train_flops(models.find(job.trainee).architecture, job.training, tokens, context),
        "train_loss": sum(e["loss"] for e in last_epoch) / len(last_epoch),
        "steps": len(losses),
        "train_seconds": seconds,
        "gpu_seconds": seconds * job.profile.n_workers if job.profile.device == "gpu" else 0.0,
        "device": job.profile.device,
        "zero_stage": job.profile.zero_stage,
        "n_workers": job.profile.n_workers,
    }
    job.store.write_json(f"trials/{job.key}/trained.json", trained)


# ---- the phase's unit ------------------------------------------------------------------------------------------------


def trainer(job: Job) -> Any:
    """Ray Train's trainer for the job; it continues from the last checkpoint of a run of the same key."""
    import ray.train
    from ray.train import CheckpointConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    gpu = job.profile.device == "gpu"
    # A little less than a core, so that the trials' drivers, which take next to nothing, find room beside the workers.
    takes = {"GPU": 1.0} if gpu else {"CPU": 0.9}
    v2: Any = ray.train  # its classes of these names have more fields than those that a type checker sees
    return TorchTrainer(
        lambda: fine_tune(job),
        scaling_config=ScalingConfig(num_workers=job.profile.n_workers, use_gpu=gpu, resources_per_worker=takes),
        run_config=v2.RunConfig(
            name="train",
            storage_path=job.store.address(f"trials/{job.key}"),
            failure_config=v2.FailureConfig(max_failures=2, controller_failure_limit=1),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
            worker_runtime_env={"env_vars": environment(job.profile)},
        ),
    )


def environment(profile: Profile) -> dict[str, str]:
    """Ray would give each worker as many OpenMP threads as CPUs it reserves."""
    threads = {"OMP_NUM_THREADS": str(profile.threads)} if profile.device == "cpu" else {}
    return threads | {"TOKENIZERS_PARALLELISM": "false", "DS_ACCELERATOR": "cuda" if profile.device == "gpu" else "cpu"}
