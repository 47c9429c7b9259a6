"""Fine-tuning's speed: the engine's own loop against TRL's SFTTrainer, on the same elements in the same batches."""

import argparse
import os
import random
import tempfile
import time
from functools import partial
from typing import Any

from bench_common import Bed, Measure, apart, bed, in_turns, medians, report, write

from engine import finetune, news, pool, protocols
from engine.finetune import Job
from engine.store import Store
from engine.study import Training

SEED = 0
GOAL = 1.0

Result = dict[str, Any]


def add(parser: argparse.ArgumentParser) -> None:
    """The benchmark's own arguments."""
    parser.add_argument("--steps", type=int, default=18, help="optimizer steps, the first not timed (default: 18)")
    parser.add_argument("--batch-size", type=int, default=8, help="elements a step (default: %(default)s)")
    parser.add_argument("--pool", metavar="STORAGE/STUDY/pools/NAME", help="elements of this pool; default: the news")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measures, prints, writes."""
    if args.steps < 2:
        raise ValueError(f"--steps {args.steps}: at least 2, since the first is not timed")
    bed_ = bed(args.model, args.device)
    job = make_job(bed_, elements(args.pool), args.batch_size)
    env = finetune.environment(job.profile)
    contenders = {"ours": ours, "SFTTrainer": sft_trainer}
    runs = in_turns({n: partial(only, f, job, args.steps, env) for n, f in contenders.items()}, args.repeat)
    speed = medians(runs, "tokens_s")
    measures = [
        Measure(what="ours over SFTTrainer", value=speed["ours"] / speed["SFTTrainer"], goal=GOAL),
        Measure(what="largest difference of a step's loss (nats)", value=loss_difference(runs)),
    ]
    title = f"fine-tune, {args.model}, LoRA, {args.steps} steps of {args.batch_size} elements"
    report(title, runs, ("tokens_s", "tokens", "seconds", "start_s"), measures)
    write(args.out, {k: v for k, v in vars(args).items() if k != "run"}, bed_, runs, measures)
    return 0


def only(function: Any, job: Job, steps: int, env: dict[str, str]) -> Result:
    """What a contender measured in a process of its own."""
    measured: Result
    measured, _ = apart(function, job, steps, env=env)
    return measured


def loss_difference(runs: dict[str, list[Result]]) -> float:
    """Between the contenders, in their first runs."""
    mine, theirs = (runs[name][0]["losses"] for name in ("ours", "SFTTrainer"))
    return max(abs(float(a) - float(b)) for a, b in zip(mine, theirs, strict=True))


# ---- the same elements for both --------------------------------------------------------------------------------------


def elements(path: str | None) -> list[tuple[str, str, None]]:
    """A pool's elements, or the shipped news and its questions with their right answers, in a mixed order."""
    if path:
        root, _, name = path.rstrip("/").rpartition("/pools/")
        draws = [d for of_item in pool.read_draws(Store(root), name).values() for d in of_item]
        found = [(e.user, e.assistant, None) for d in draws for e in d.draft.elements]
    else:
        items = news.load_news()
        found = [(protocols.TELL, item.text, None) for item in items]
        found += [(q.text, q.options[q.answer], None) for item in items for q in item.questions]
    random.Random(SEED).shuffle(found)
    return found


def make_job(bed_: Bed, found: list[tuple[str, str, None]], batch_size: int) -> Job:
    """The elements as a trial's job. Whole batches only: SFTTrainer would fill a smaller one from the next epoch."""
    n = len(found) // batch_size * batch_size
    if not n:
        raise ValueError(f"{len(found)} elements: too few for a batch of {batch_size}")
    return Job(
        key="bench",
        trainee=bed_.name,
        elements=tuple(found[:n]),
        learn_news=False,
        training=Training(batch_size=batch_size),
        precision="float32",
        seed=SEED,
        profile=bed_.profile,
        store=Store("unused"),
    )


def result(began: float, ends: list[float], tokens: list[int], losses: list[float]) -> Result:
    """A contender's numbers; what is timed lies between the end of the first step and that of the last."""
    seconds, n = ends[-1] - ends[0], sum(tokens[1:])
    return {"tokens_s": n / seconds, "tokens": n, "seconds": seconds, "start_s": ends[0] - began, "losses": losses}


# ---- the contenders --------------------------------------------------------------------------------------------------


def ours(job: Job, steps: int) -> Result:
    """The steps of `engine.finetune.fine_tune`, without Ray, checkpoints and export."""
    from torch import distributed as dist
    from torch._C._distributed_c10d import HashStore

    began = time.monotonic()
    backend = "nccl" if job.profile.device == "gpu" else "gloo"
    os.environ["LOCAL_RANK"] = "0"  # DeepSpeed insists on it
    dist.init_process_group(backend, store=HashStore(), rank=0, world_size=1)
    data, engine = finetune.encoded(job), finetune.build(job)
    ends, losses, tokens = [], [], []
    for step in range(steps):
        batch = [data[i] for i in finetune.batch_at(step, len(data), job.training.batch_size, job.seed)]
        rate = finetune.learning_rate_at(step, steps, job.training)
        losses.append(finetune.train_step(engine, job, batch, rate))
        ends.append(time.monotonic())
        tokens.append(sum(len(e.ids) for e in batch))
    dist.destroy_process_group()
    return result(began, ends, tokens, losses)


def sft_trainer(job: Job, steps: int) -> Result:
    """TRL's trainer in its usual form: padded batches, loss on the completion."""
    import torch
    from transformers import AutoTokenizer
    from transformers.trainer_callback import PrinterCallback
    from trl.trainer.sft_trainer import SFTTrainer

    began = time.monotonic()
    if job.profile.device == "cpu":
        torch.set_num_threads(job.profile.threads)
    rows = in_order(job, steps)
    model, optimizer, schedule = model_and_optimizer(job, steps)
    clock = step_clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=model,
            args=sft_settings(job, steps, folder),
            train_dataset=rows,
            processing_class=AutoTokenizer.from_pretrained(job.folder),
            optimizers=(optimizer, schedule),
            callbacks=[clock],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    size, lengths = job.training.batch_size, [len(ids) for ids in rows["input_ids"]]
    tokens = [sum(lengths[i : i + size]) for i in range(0, len(lengths), size)]
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return result(began, clock.ends, tokens, losses)


def in_order(job: Job, steps: int) -> Any:
    """The elements as our loop takes them, step by step; tokens and all, so that not even a line break differs."""
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    data = finetune.encoded(job)
    size, seed = job.training.batch_size, job.seed
    taken = [data[i] for step in range(steps) for i in finetune.batch_at(step, len(data), size, seed)]
    return Dataset.from_list([{"input_ids": e.ids, "completion_mask": [int(x) for x in e.loss]} for e in taken])


def model_and_optimizer(job: Job, steps: int) -> tuple[Any, Any, Any]:
    """The model with the same adapters, AdamW, and our schedule of learning rates."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(job.folder, dtype=torch.float32)
    model = finetune.with_adapter(model, job)
    trained = [p for p in model.parameters() if p.requires_grad]
    highest, decay = job.training.learning_rate, job.training.weight_decay
    optimizer = torch.optim.AdamW(trained, lr=highest, weight_decay=decay)
    share = partial(rate_share, steps=steps, training=job.training)
    return model, optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, share)


def rate_share(step: int, steps: int, training: Training) -> float:
    """The step's learning rate as a share of the highest."""
    return finetune.learning_rate_at(min(step, steps - 1), steps, training) / training.learning_rate


def sft_settings(job: Job, steps: int, folder: str) -> Any:
    """What our loop does, in TRL's words; its defaults are bfloat16 and recomputed activations."""
    from trl.trainer.sft_config import SFTConfig

    return SFTConfig(
        output_dir=folder,
        max_steps=steps,
        per_device_train_batch_size=job.training.batch_size,
        train_sampling_strategy="sequential",
        completion_only_loss=True,
        max_length=None,
        max_grad_norm=job.training.max_grad_norm,
        gradient_checkpointing=job.profile.checkpoint_activations,
        bf16=False,
        use_cpu=job.profile.device == "cpu",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=job.seed,
    )


def step_clock() -> Any:
    """A callback that notes when each step ended."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.ends: list[float] = []

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.ends.append(time.monotonic())

    return Clock()
