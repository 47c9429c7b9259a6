"""Self-play's speed: the engine's own writer against vLLM, transformers and `ray.data.llm`, on the same prompts."""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from bench.contest import Measure, add_arguments, apart, bed, in_turns, medians, report, write
from bench.prompts import Work, generator, orders, prompts, sampling_params, written
from engine import UserError
from engine.cluster import session
from engine.inference import chat, settings
from engine.inference.settings import MAX_CONTEXT
from engine.news.items import load_news
from engine.selfplay.orders import protocols_of, to_row
from engine.storage.ledger import Ledger
from engine.storage.store import Store
from engine.study import Sampling

PADDED_BATCH = 32  # prompts a `generate` of transformers
GOAL_BARE, GOAL_TRANSFORMERS = 0.95, 1.6

Result = dict[str, float]


def add(parser: argparse.ArgumentParser) -> None:
    """The benchmark's arguments."""
    add_arguments(parser, repeat=2)
    parser.add_argument("--prompts", type=int, default=96, help="about so many (default: %(default)s)")
    parser.add_argument("--max-tokens", type=int, default=160, help="new tokens of a prompt (default: %(default)s)")
    parser.add_argument(
        "--against",
        choices=["vllm", "ray-data-llm"],
        default="vllm",
        help="vllm: bare vLLM and transformers, engine start apart; ray-data-llm: the whole phase, start included",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measures, prints, writes."""
    if args.prompts < 1:
        raise UserError(f"--prompts {args.prompts}: at least 1")
    items = sorted(load_news(), key=lambda i: i.id)[: args.prompts]
    sampling = Sampling(temperature=0.7, max_tokens=args.max_tokens)
    draws = round(args.prompts / len(items))
    work = Work(bed=bed(args.model, args.device), items=tuple(items), draws=draws, sampling=sampling)
    runs, measures = against_vllm(work, args.repeat) if args.against == "vllm" else against_ray(work, args.repeat)
    columns = [c for c in ("tokens_s", "new_tokens", "prompt_tokens", "seconds", "start_s") if c in runs["ours"][0]]
    report(f"self-play, {args.model}, {draws * len(items)} prompts", runs, columns, measures)
    write(args.out, {k: v for k, v in vars(args).items() if k != "run"}, work.bed, runs, measures)
    return 0


def against_vllm(work: Work, repeat: int) -> tuple[dict[str, list[Result]], list[Measure]]:
    """New tokens per second while the engine runs; its start is reported apart."""
    contenders = {"ours": ours, "vLLM chat": bare, "transformers": padded}
    env = settings.environment(work.bed.serving)
    runs = in_turns({name: partial(only, function, work, env) for name, function in contenders.items()}, repeat)
    speed = medians(runs, "tokens_s")
    return runs, [
        Measure(what="ours over vLLM chat", value=speed["ours"] / speed["vLLM chat"], goal=GOAL_BARE),
        Measure(what="ours over transformers", value=speed["ours"] / speed["transformers"], goal=GOAL_TRANSFORMERS),
    ]


def only(function: Any, work: Work, env: dict[str, str]) -> Result:
    """What a contender measured in a process of its own."""
    measured: Result
    measured, _ = apart(function, work, env=env)
    return measured


def result(began: float, started: float, new_tokens: int, prompt_tokens: int) -> Result:
    """A contender's numbers, called at its end; `began` and `started`: before and after its start."""
    seconds = time.monotonic() - started
    numbers = {"new_tokens": new_tokens, "prompt_tokens": prompt_tokens, "seconds": seconds, "start_s": started - began}
    return {"tokens_s": new_tokens / seconds, **numbers}


# ---- engine start apart ----------------------------------------------------------------------------------------------


def ours(work: Work) -> Result:
    """Self-play's writer, with parsing and its shards on disk."""
    from engine.selfplay.writer import Writer

    began = time.monotonic()
    asked = [to_row(order) for order in orders(work)]
    with tempfile.TemporaryDirectory() as folder:
        write_draws = Writer(generator(work), Ledger(Store(folder)), protocols_of(orders(work)))
        started = time.monotonic()
        write_draws({column: [row[column] for row in asked] for column in asked[0]})
        ended = result(began, started, 0, 0)
        new, read = written(Ledger(Store(folder)))
    return ended | {"tokens_s": new / ended["seconds"], "new_tokens": new, "prompt_tokens": read}


def bare(work: Work) -> Result:
    """One call of `LLM.chat`; its answers are counted and forgotten."""
    from vllm import SamplingParams

    from engine.inference import vllm_engine

    began = time.monotonic()
    llm = vllm_engine.start(work.bed.folder, work.bed.serving, work.bed.precision, MAX_CONTEXT)
    started = time.monotonic()
    messages: list[Any] = [[{"role": "user", "content": text}] for text, _ in prompts(work)]
    params = [SamplingParams(**sampling_params(work.sampling, seed)) for _, seed in prompts(work)]
    outputs = llm.chat(messages, params, use_tqdm=False)
    new, read = (sum(map(len, ids)) for ids in tokens_of(outputs))
    return result(began, started, new, read)


def tokens_of(outputs: Sequence[Any]) -> tuple[list[Sequence[int]], list[Sequence[int]]]:
    """Token ids of the answers and of the prompts."""
    return [o.outputs[0].token_ids for o in outputs], [o.prompt_token_ids for o in outputs]


def padded(work: Work) -> Result:
    """`generate` of transformers on padded batches, in the given order."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    began = time.monotonic()
    device = "cuda" if work.bed.serving.device == "gpu" else "cpu"
    if device == "cpu":
        torch.set_num_threads(work.bed.serving.threads)
    tokenizer = AutoTokenizer.from_pretrained(work.bed.folder, padding_side="left")
    model: Any = AutoModelForCausalLM.from_pretrained(work.bed.folder, dtype=work.bed.precision)
    model.to(device).eval()
    started = time.monotonic()
    ids = [chat.prompt_ids(tokenizer, text) for text, _ in prompts(work)]
    batches = [ids[i : i + PADDED_BATCH] for i in range(0, len(ids), PADDED_BATCH)]
    new = sum(sum(generate(model, tokenizer, batch, work.sampling)) for batch in batches)
    return result(began, started, new, sum(map(len, ids)))


def generate(model: Any, tokenizer: Any, batch: Sequence[list[int]], sampling: Sampling) -> list[int]:
    """New tokens of each row of one batch, its end of turn counted and what comes after it not."""
    inputs = tokenizer.pad({"input_ids": list(batch)}, return_tensors="pt").to(model.device)
    rows = model.generate(
        **inputs,
        do_sample=True,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=0,
        max_new_tokens=sampling.max_tokens,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    answers = rows[:, inputs["input_ids"].shape[1] :].tolist()
    end = tokenizer.eos_token_id
    return [a.index(end) + 1 if end in a else len(a) for a in answers]


# ---- the whole phase, start included ---------------------------------------------------------------------------------


def against_ray(work: Work, repeat: int) -> tuple[dict[str, list[Result]], list[Measure]]:
    """Seconds from process start to end."""
    contenders = {"ours": whole, "ray.data.llm": ray_data_llm}
    runs = in_turns({name: partial(timed, function, work) for name, function in contenders.items()}, repeat)
    seconds = medians(runs, "seconds")
    value = seconds["ray.data.llm"] / seconds["ours"]
    return runs, [Measure(what="seconds of ray.data.llm over ours", value=value)]


def timed(function: Any, work: Work) -> Result:
    """New tokens, and seconds in all, of a contender that starts Ray and its engine itself."""
    new, seconds = apart(function, work, env={})
    return {"tokens_s": new / seconds, "new_tokens": new, "seconds": seconds}


def whole(work: Work) -> int:
    """The phase as a study runs it; gives new tokens."""
    from engine.selfplay import phase

    with tempfile.TemporaryDirectory() as folder, session.running():
        ledger = Ledger(Store(folder))
        phase.write(generator(work), orders(work), ledger, n_engines=1)
        return written(ledger)[0]


def ray_data_llm(work: Work) -> int:
    """The same prompts through Ray's own processor; gives new tokens."""
    from transformers import AutoTokenizer

    from engine.selfplay import phase

    tokenizer = AutoTokenizer.from_pretrained(work.bed.folder)
    rows = [{"ids": chat.prompt_ids(tokenizer, text), "seed": seed} for text, seed in prompts(work)]
    with session.running():
        import ray

        for module in (__name__, Work.__module__):  # not installed where the workers are
            ray.cloudpickle.register_pickle_by_value(sys.modules[module])
        phase.quiet_ray_data()
        finished = processor(work)(ray.data.from_items(rows)).take_all()
    return sum(row["new_tokens"] for row in finished)


def processor(work: Work) -> Any:
    """`ray.data.llm` with the same engine settings, its own template and tokenising stages off."""
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig

    sampling, gpu = work.sampling, work.bed.serving.device == "gpu"
    config = vLLMEngineProcessorConfig(
        model_source=work.bed.folder,
        engine_kwargs=settings.engine_settings(work.bed.serving, work.bed.precision, MAX_CONTEXT),
        chat_template_stage=False,
        tokenize_stage=False,
        detokenize_stage=False,
        concurrency=1,
        # Without a GPU it would wait for one for ever.
        placement_group_config=None if gpu else {"bundles": [{"CPU": 1}]},
        runtime_env={"env_vars": settings.environment(work.bed.serving)},
        log_engine_metrics=False,
    )
    return build_processor(
        config,
        preprocess=lambda row: {
            "tokenized_prompt": row["ids"],
            "sampling_params": sampling_params(sampling, row["seed"]),
        },
        postprocess=lambda row: {"new_tokens": int(row["num_generated_tokens"])},
    )
