"""The public benchmarks: what is missing is reported before a model is loaded; the harness gets the right command."""

import json
import sys
from pathlib import Path

import pytest

from engine.evaluation import harness
from engine.models import hub


@pytest.fixture
def adapter(tmp_path: Path) -> str:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 32}))
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    return str(tmp_path)


def test_a_folder_without_an_adapter_is_named(tmp_path: Path) -> None:
    with pytest.raises(harness.HarnessError, match=r"no adapter_config\.json"):
        harness.check(str(tmp_path), ["gsm8k"], own_tasks=False)


def test_an_adapter_without_safetensors_or_with_settings_that_cannot_be_read_is_named(
    tmp_path: Path, adapter: str
) -> None:
    """Without safetensors the harness would load a pickle."""
    for settings in ("{", "[]", '{"r": "high"}', "{}"):
        (tmp_path / "adapter_config.json").write_text(settings)
        with pytest.raises(harness.HarnessError, match=r"adapter_config\.json: no LoRA rank"):
            harness.check(adapter, ["gsm8k"], own_tasks=False)
    (tmp_path / "adapter_model.safetensors").rename(tmp_path / "adapter_model.bin")
    with pytest.raises(harness.HarnessError, match=r"no adapter_model\.safetensors"):
        harness.check(adapter, ["gsm8k"], own_tasks=False)


def test_without_a_hub_the_error_names_what_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "find_spec", lambda name: True)
    monkeypatch.setattr(hub, "is_reachable", lambda: False)
    with pytest.raises(harness.HarnessError, match=r"no hub can be reached, and gsm8k load .* `forms`"):
        harness.check(None, ["gsm8k"], own_tasks=False)
    harness.check(None, ["mine"], own_tasks=True)


def test_without_the_extra_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "find_spec", lambda name: None)
    with pytest.raises(harness.HarnessError, match=r"\.\[harness\]"):
        harness.check(None, ["gsm8k"], own_tasks=False)


def test_the_adapter_goes_to_the_backend_of_the_device(tiny: Path, adapter: str) -> None:
    gpu = harness.command(str(tiny), adapter, ["gsm8k", "ifeval"], "gpu", "bfloat16", "out")
    assert gpu[:6] == [sys.executable, "-m", "lm_eval", "run", "--model", "vllm"]
    assert f"pretrained={tiny},dtype=bfloat16,lora_local_path={adapter},max_lora_rank=32" in gpu
    assert "gsm8k,ifeval" in gpu
    cpu = harness.command(str(tiny), adapter, ["gsm8k"], "cpu", "float32", "out")
    assert f"pretrained={tiny},dtype=float32,peft={adapter}" in cpu
    assert "hf" in cpu
