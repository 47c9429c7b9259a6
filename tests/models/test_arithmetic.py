"""FLOPs as torch counts them, and bytes as computed by hand. `pytest tests/models/test_arithmetic.py`"""

from typing import Any

import pytest

from engine.models import catalogue
from engine.models.architecture import Architecture, n_params, n_params_lora
from engine.models.arithmetic import activation_bytes, forward_flops, matrix_params, train_bytes, train_flops
from engine.study import Precision, Training

TOKENS = 512


def count_flops(network: Any, backward: bool) -> float:
    """FLOPs of one pass over a sequence of `TOKENS` tokens, by torch's counter."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter:
        loss = network(input_ids=torch.zeros(1, TOKENS, dtype=torch.long, device="meta")).logits.sum()
        if backward:
            loss.backward()
    return counter.get_total_flops()


def make_network_without_weights(name: str) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(**catalogue.find(name).architecture.to_config())
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, attn_implementation="eager")


@pytest.mark.parametrize("name", ["smollm2-135m", "qwen2.5-0.5b", "qwen2.5-72b"])
def test_flops_of_a_forward_pass_are_those_that_torch_counts(name: str) -> None:
    """Torch counts attention of each token to all `TOKENS`, so the mean context is `TOKENS` here."""
    expected = forward_flops(catalogue.find(name).architecture, TOKENS) * TOKENS
    assert count_flops(make_network_without_weights(name), backward=False) == pytest.approx(expected, rel=0.02)


def test_flops_of_full_and_lora_training_are_those_that_torch_counts() -> None:
    from peft import LoraConfig, get_peft_model

    name = "qwen2.5-0.5b"
    arch = catalogue.find(name).architecture
    full = train_flops(arch, Training(method="full"), TOKENS, TOKENS)
    assert count_flops(make_network_without_weights(name), backward=True) == pytest.approx(full, rel=0.02)
    adapted = get_peft_model(
        make_network_without_weights(name), LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    lora = train_flops(arch, Training(lora_rank=16), TOKENS, TOKENS)
    assert count_flops(adapted, backward=True) == pytest.approx(lora, rel=0.02)


def test_the_head_counts_and_the_embedding_does_not() -> None:
    tied, untied = (catalogue.find(name).architecture for name in ("qwen2.5-0.5b", "qwen2.5-7b"))
    assert matrix_params(tied) == pytest.approx(494e6, rel=0.001)  # all parameters: the embedding is also the head
    assert matrix_params(untied) == pytest.approx(7.616e9 - 152064 * 3584, rel=0.001)


# Layer: q and o 4·4, k and v 4·2, gate, up and down 4·8, norms 2·4. Embeddings 16·4. Last norm 4.
SHAPE = Architecture(
    family="llama",
    vocab_size=16,
    hidden_size=4,
    n_layers=2,
    n_heads=2,
    n_kv_heads=1,
    head_dim=2,
    intermediate_size=8,
    max_context=32,
    tied_embeddings=True,
    qkv_bias=False,
)


@pytest.mark.parametrize(
    ("precision", "stage", "expected"),
    [  # weights + gradients + optimizer, on 4 devices (Rajbhandari et al. 2020, figure 1)
        ("bfloat16", 0, 2 + 2 + 12),
        ("bfloat16", 1, 2 + 2 + 12 / 4),
        ("bfloat16", 2, 2 + (2 + 12) / 4),
        ("bfloat16", 3, (2 + 2 + 12) / 4),
        ("float32", 0, 4 + 4 + 8),
        ("float32", 3, (4 + 4 + 8) / 4),
    ],
)
def test_bytes_per_parameter_follow_the_zero_stage(precision: Precision, stage: int, expected: float) -> None:
    n_bytes = train_bytes(SHAPE, Training(method="full"), precision, stage, 4, tokens=0, recompute=False)
    assert n_bytes == expected * (2 * (144 + 8) + 4 + 64)


def test_lora_has_gradients_and_moments_of_the_adapter_only() -> None:
    n_bytes = train_bytes(SHAPE, Training(lora_rank=3), "bfloat16", 0, 1, tokens=0, recompute=False)
    assert n_bytes == 2 * n_params(SHAPE) + (2 + 12) * n_params_lora(SHAPE, 3)


def test_recomputation_stores_one_layer_and_the_inputs_of_all() -> None:
    layer, logits = 16 * 4 + 4 * 8, 8 * 16
    assert activation_bytes(SHAPE, 2, 10, recompute=False) == 10 * (2 * 2 * layer + logits)
    assert activation_bytes(SHAPE, 2, 10, recompute=True) == 10 * (2 * (layer + 2 * 4) + logits)
