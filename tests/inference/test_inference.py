"""The engine that all phases share: what it has to survive."""

from pathlib import Path

import pytest
from conftest import SERVING

pytestmark = pytest.mark.slow


def test_seeded_prompts_that_overflow_a_step_are_all_answered_and_a_seed_repeats(tiny: Path) -> None:
    """vLLM rewinds a seeded request's generator when its prompt is split over steps, which CPU generators cannot."""
    from vllm import SamplingParams

    from engine.inference import vllm_engine

    llm = vllm_engine.start(str(tiny), SERVING, "float32", 1024)
    requests = [
        vllm_engine.Request(
            tag=n,
            ids=[1 + (n + i) % 1000 for i in range(700)],
            params=SamplingParams(temperature=1.0, seed=n % 10, max_tokens=4, ignore_eos=True),
        )
        for n in range(30)
    ]
    answers = dict(vllm_engine.run(llm, requests))
    assert set(answers) == set(range(30))
    again = dict(vllm_engine.run(llm, requests[:1]))
    assert again[0].outputs[0].token_ids == answers[0].outputs[0].token_ids
