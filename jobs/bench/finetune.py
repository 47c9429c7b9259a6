"""Fine-tuning's speed: the engine's own loop against TRL's SFTTrainer, on the same elements in the same batches."""

import argparse
import os
import random
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from itertools import islice
from typing import Any

from bench.contest import Bed, Measure, add_arguments, apart, bed, in_turns, medians, report, write
from engine import UserError
from engine.inference.chat import Element
from engine.models import catalogue
from engine.news.items import load_news
from engine.planning import placement
from engine.selfplay import protocols
from engine.storage.ledger import Ledger
from engine.storage.pools import split_pool_address
from engine.storage.store import Store
from engine.study import Training, Trial
from engine.training.job import Job, environment
from engine.training.steps import batch_at, learning_rate_at, n_steps

SEED = 0
GOAL = 1.0

Result = dict[str, Any]


def add(parser: argparse.ArgumentParser) -> None:
    """The benchmark's arguments."""
    add_arguments(parser, repeat=3)
    parser.add_argument("--steps", type=int, default=18, help="optimizer steps, the first not timed (default: 18)")
    parser.add_argument("--batch-size", type=int, default=8, help="elements per step (default: %(default)s)")
    parser.add_argument("--pool", metavar="STORAGE/STUDY/pools/NAME", help="elements of this pool; default: the news")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measures, prints, writes."""
    if args.steps < 2:
        raise UserError(f"--steps {args.steps}: at least 2, since the first is not timed")
    bed_ = bed(args.model, args.device)
    mixed = whole_batches(elements(args.pool), args.batch_size)
    job = make_job(bed_, args.batch_size)
    env = environment(job.placement)
    contenders = {"ours": ours, "SFTTrainer": sft_trainer}
    runs = in_turns({n: partial(only, f, job, mixed, args.steps, env) for n, f in contenders.items()}, args.repeat)
    speed = medians(runs, "tokens_s")
    measures = [
        Measure(what="ours over SFTTrainer", value=speed["ours"] / speed["SFTTrainer"], goal=GOAL),
        Measure(what="largest difference of a step's loss (nats)", value=loss_difference(runs)),
    ]
    title = f"fine-tune, {args.model}, LoRA, {args.steps} steps of {args.batch_size} elements"
    report(title, runs, ("tokens_s", "tokens", "seconds", "start_s"), measures)
    write(args.out, {k: v for k, v in vars(args).items() if k != "run"}, bed_, runs, measures)
    return 0


def only(function: Any, job: Job, mixed: Sequence[Element], steps: int, env: dict[str, str]) -> Result:
    """What a contender measured in a process of its own."""
    measured: Result
    measured, _ = apart(function, job, mixed, steps, env=env)
    return measured


def loss_difference(runs: dict[str, list[Result]]) -> float:
    """Between the contenders, in their first runs."""
    mine, theirs = (runs[name][0]["losses"] for name in ("ours", "SFTTrainer"))
    return max(abs(float(a) - float(b)) for a, b in zip(mine, theirs, strict=True))


# ---- the same elements for both --------------------------------------------------------------------------------------


def elements(path: str | None) -> list[Element]:
    """A pool's elements, or the shipped news and its questions with their right answers, in a mixed order."""
    mixed = pool_elements(path) if path else shipped_elements()
    random.Random(SEED).shuffle(mixed)
    return mixed


def pool_elements(path: str) -> list[Element]:
    """The elements of a pool. Raises UserError where there are none."""
    root, name = split_pool_address(path)
    table = Ledger(Store(root)).elements(name)
    if table is None:
        raise UserError(f"--pool {path}: no elements; write the pool with jobs/selfplay.py")
    return [Element(user=user, assistant=assistant) for user, assistant in table.select("user", "assistant").rows()]


def shipped_elements() -> list[Element]:
    """The shipped news, and its questions with their right answers."""
    items = load_news()
    news = [Element(user=protocols.TELL, assistant=item.text) for item in items]
    return news + [Element(user=q.text, assistant=q.options[q.answer]) for item in items for q in item.questions]


def whole_batches(mixed: list[Element], batch_size: int) -> list[Element]:
    """The elements that fill batches: SFTTrainer would fill a smaller one from the next epoch."""
    n = len(mixed) // batch_size * batch_size
    if not n:
        raise UserError(f"{len(mixed)} elements: too few for a batch of {batch_size}")
    return mixed[:n]


def make_job(bed_: Bed, batch_size: int) -> Job:
    """The settings of the training, as a trial's job; the elements are passed beside it."""
    training = Training(batch_size=batch_size)
    placed = placement.place_training(catalogue.find(bed_.name).architecture, training, bed_.precision, bed_.cluster)
    trial = Trial(
        trainee=bed_.name, domain="bench", protocol="bench", seed=SEED, precision=bed_.precision, training=training
    )
    return Job(trial=trial, items=(), placement=placed, ledger=Ledger(Store("unused")))


def result(began: float, ends: list[float], tokens: list[int], losses: list[float]) -> Result:
    """A contender's numbers; what is timed lies between the end of the first step and that of the last."""
    seconds, n = ends[-1] - ends[0], sum(tokens[1:])
    return {"tokens_s": n / seconds, "tokens": n, "seconds": seconds, "start_s": ends[0] - began, "losses": losses}


# ---- the contenders --------------------------------------------------------------------------------------------------


def ours(job: Job, mixed: Sequence[Element], steps: int) -> Result:
    """The steps of a trial, without Ray, checkpoints and export."""
    from torch import distributed as dist
    from torch._C._distributed_c10d import HashStore

    from engine.training import loop

    began = time.monotonic()
    backend = "nccl" if job.placement.device == "gpu" else "gloo"
    os.environ["LOCAL_RANK"] = "0"  # DeepSpeed insists on it
    dist.init_process_group(backend, store=HashStore(), rank=0, world_size=1)
    data, engine = loop.encode(job, mixed), loop.build(job)
    ends, log = [], []
    for step in islice(loop.train(engine, job, data), steps):
        ends.append(time.monotonic())
        log.append(step)
    dist.destroy_process_group()
    return result(began, ends, [step.tokens for step in log], [step.loss for step in log])


def sft_trainer(job: Job, mixed: Sequence[Element], steps: int) -> Result:
    """TRL's trainer in its usual form: padded batches, loss on the completion."""
    import torch
    from transformers import AutoTokenizer
    from transformers.trainer_callback import PrinterCallback
    from trl.trainer.sft_trainer import SFTTrainer

    began = time.monotonic()
    if job.placement.device == "cpu":
        torch.set_num_threads(job.placement.threads)
    rows = in_order(job, mixed, steps)
    model, optimizer, schedule = model_and_optimizer(job, len(mixed))
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
    size, lengths = job.trial.training.batch_size, [len(ids) for ids in rows["input_ids"]]
    tokens = [sum(lengths[i : i + size]) for i in range(0, len(lengths), size)]
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return result(began, clock.ends, tokens, losses)


def in_order(job: Job, mixed: Sequence[Element], steps: int) -> Any:
    """The elements as our loop takes them, step by step; tokens and all, so that not even a line break differs."""
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    from engine.training import loop

    data = loop.encode(job, mixed)
    size, seed = job.trial.training.batch_size, job.trial.seed
    taken = [data[i] for step in range(steps) for i in batch_at(step, len(data), size, seed)]
    return Dataset.from_list([{"input_ids": e.ids, "completion_mask": [int(x) for x in e.loss]} for e in taken])


def model_and_optimizer(job: Job, n_elements: int) -> tuple[Any, Any, Any]:
    """The model with the same adapters, AdamW, and our schedule of learning rates over the whole trial."""
    import torch
    from transformers import AutoModelForCausalLM

    from engine.training import loop

    model = loop.with_adapter(AutoModelForCausalLM.from_pretrained(job.folder, dtype=job.trial.precision), job)
    trained, training = [p for p in model.parameters() if p.requires_grad], job.trial.training
    optimizer = torch.optim.AdamW(trained, lr=training.learning_rate, weight_decay=training.weight_decay)
    share = partial(rate_share, total=n_steps(n_elements, training), training=training)
    return model, optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, share)


def rate_share(step: int, total: int, training: Training) -> float:
    """The step's learning rate as a share of the highest."""
    return learning_rate_at(min(step, total - 1), total, training) / training.learning_rate


def sft_settings(job: Job, steps: int, folder: str) -> Any:
    """What our loop does, in TRL's words; its defaults are bfloat16 and recomputed activations."""
    from trl.trainer.sft_config import SFTConfig

    return SFTConfig(
        output_dir=folder,
        max_steps=steps,
        per_device_train_batch_size=job.trial.training.batch_size,
        train_sampling_strategy="sequential",
        completion_only_loss=True,
        max_length=None,
        max_grad_norm=job.trial.training.max_grad_norm,
        gradient_checkpointing=job.placement.recompute,
        bf16=job.trial.precision == "bfloat16",
        use_cpu=job.placement.device == "cpu",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=job.trial.seed,
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
