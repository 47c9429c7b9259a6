"""The engine that all phases share: what it has to survive."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from conftest import SERVING

pytestmark = pytest.mark.slow
N_PROMPTS = 30


def answer_and_repeat(model: str) -> tuple[dict[int, list[int]], list[int]]:
    """What the model writes for seeded prompts longer than a step together, and for the first of them once more."""
    from vllm import SamplingParams

    from engine.inference import vllm_engine

    llm = vllm_engine.start(model, SERVING, "float32", 1024)
    requests = [
        vllm_engine.Request(
            tag=n,
            ids=[1 + (n + i) % 1000 for i in range(700)],
            params=SamplingParams(temperature=1.0, seed=n % 10, max_tokens=4, ignore_eos=True),
        )
        for n in range(N_PROMPTS)
    ]
    answers, again = dict(vllm_engine.run(llm, requests)), dict(vllm_engine.run(llm, requests[:1]))
    return {n: list(one.outputs[0].token_ids) for n, one in answers.items()}, list(again[0].outputs[0].token_ids)


def test_seeded_prompts_that_overflow_a_step_are_all_answered_and_a_seed_repeats(tiny: Path) -> None:
    """vLLM rewinds a seeded request's generator when its prompt is split over steps, which CPU generators cannot.

    In a process of its own, as a study's engines are: vLLM looks at everything that is loaded beside it.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        answers, again = process.submit(answer_and_repeat, str(tiny)).result()
    assert set(answers) == set(range(N_PROMPTS))
    assert again == answers[0]
