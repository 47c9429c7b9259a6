"""What both of vLLM's model runners are given passes vLLM's own checks; the second one refuses what the first takes."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.cluster.machines import ServingPlacement
from engine.inference import settings

pytestmark = pytest.mark.slow  # imports vLLM


def config_of(tiny: Path, **options: Any) -> Any:
    from vllm.config import ModelConfig

    return ModelConfig(model=str(tiny), **options)


def test_a_gpu_s_runner_takes_what_it_is_given_and_refuses_a_cpu_s_processor(tiny: Path) -> None:
    from vllm.v1.worker.gpu.sample.logits_processor import build_custom_logits_processors_params_validator

    from engine.inference import forced

    options = forced.engine_options("gpu")
    assert config_of(tiny, **options).enable_trace_replay
    validate = build_custom_logits_processors_params_validator(options.get("logits_processors"))
    validate(forced.force([5, 7], replay=True))
    with pytest.raises(ValueError, match="not a subclass"):
        build_custom_logits_processors_params_validator(forced.engine_options("cpu")["logits_processors"])


def test_a_forced_request_passes_the_checks_of_a_replay(tiny: Path) -> None:
    from vllm.exceptions import VLLMValidationError

    from engine.inference import forced

    model = config_of(tiny, enable_trace_replay=True)
    forced.force([5, 7], replay=True)._validate_trace_replay(model, None)
    with pytest.raises(VLLMValidationError, match="out-of-vocab"):
        forced.force([5, 10**6], replay=True)._validate_trace_replay(model, None)
    assert forced.force([5, 7], replay=True).max_tokens == 2


@pytest.mark.parametrize("replays", [True, False])
def test_an_engine_says_itself_whether_it_replays(replays: bool) -> None:
    from engine.inference import forced

    model = SimpleNamespace(enable_trace_replay=replays)
    llm = SimpleNamespace(llm_engine=SimpleNamespace(vllm_config=SimpleNamespace(model_config=model)))
    assert forced.can_replay(llm) is replays


def test_the_runner_is_pinned_on_each_device() -> None:
    places = (ServingPlacement(device=device, threads=1, tensor_parallel=1, fits=True) for device in ("gpu", "cpu"))
    assert [settings.environment(place)["VLLM_USE_V2_MODEL_RUNNER"] for place in places] == ["1", "0"]
