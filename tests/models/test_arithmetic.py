"""Operations as torch counts them, on networks without weights."""

from typing import Any

import pytest

from engine.models import catalogue
from engine.models.arithmetic import forward_flops, matrix_params, train_flops
from engine.study import Training

TOKENS = 512


def count(network: Any, backward: bool) -> float:
    """Operations of one pass over a row of tokens, by torch's own counter."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter:
        loss = network(input_ids=torch.zeros(1, TOKENS, dtype=torch.long, device="meta")).logits.sum()
        if backward:
            loss.backward()
    return counter.get_total_flops()


def on_meta(name: str) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    a = catalogue.find(name).architecture
    config = AutoConfig.for_model(
        a.family,
        vocab_size=a.vocab_size,
        hidden_size=a.hidden_size,
        num_hidden_layers=a.n_layers,
        num_attention_heads=a.n_heads,
        num_key_value_heads=a.n_kv_heads,
        head_dim=a.head_dim,
        intermediate_size=a.intermediate_size,
        max_position_embeddings=a.max_context,
        tie_word_embeddings=a.tied_embeddings,
    )
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, attn_implementation="eager")


@pytest.mark.parametrize("name", ["smollm2-135m", "qwen2.5-0.5b", "qwen2.5-72b"])
def test_a_forward_pass_costs_what_torch_counts(name: str) -> None:
    """Torch counts the whole square of attention; ours the mean context, which is `TOKENS` then."""
    expected = forward_flops(catalogue.find(name).architecture, TOKENS) * TOKENS
    assert count(on_meta(name), backward=False) == pytest.approx(expected, rel=0.02)


def test_full_and_lora_training_cost_what_torch_counts() -> None:
    from peft import LoraConfig, get_peft_model

    name = "qwen2.5-0.5b"
    arch = catalogue.find(name).architecture
    full = train_flops(arch, Training(method="full"), TOKENS, TOKENS)
    assert count(on_meta(name), backward=True) == pytest.approx(full, rel=0.02)
    adapted = get_peft_model(on_meta(name), LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM"))
    lora = train_flops(arch, Training(lora_rank=16), TOKENS, TOKENS)
    assert count(adapted, backward=True) == pytest.approx(lora, rel=0.02)


def test_the_head_counts_and_the_embedding_does_not() -> None:
    tied, untied = (catalogue.find(name).architecture for name in ("qwen2.5-0.5b", "qwen2.5-7b"))
    assert matrix_params(tied) == pytest.approx(494e6, rel=0.001)  # all parameters: the table is the head as well
    assert matrix_params(untied) == pytest.approx(7.616e9 - 152064 * 3584, rel=0.001)
