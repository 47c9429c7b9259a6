"""A converted GGUF is tied, float32, splits digits and has a chat template. `pytest tests/models/test_conversion.py`"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.models.architecture import Architecture, ModelError, n_params
from engine.models.catalogue import SMOLLM2_135M, Model, find

BYTES = [chr(code) for code in (*range(33, 127), *range(161, 173), *range(174, 256), *range(256, 324))]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
VOCABULARY = [*SPECIAL, *BYTES, "12"]
SHAPE = replace(
    SMOLLM2_135M,
    vocab_size=len(VOCABULARY),
    hidden_size=32,
    n_layers=2,
    n_heads=2,
    n_kv_heads=1,
    head_dim=16,
    intermediate_size=24,
)
# Of the source, these tests use only the tokenizer rules.
GGUF_MODEL: Model = replace(find("smollm2-135m"), architecture=SHAPE)


def write_gguf(file: Path, shape: Architecture) -> dict[str, Any]:
    """Writes a GGUF with random weights, a second copy of the embedding as head, and a merge of two digits."""
    from gguf import GGUFWriter

    writer = GGUFWriter(file, "llama")
    write_gguf_settings(writer, shape)
    tensors = random_tensors(shape)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors


def write_gguf_settings(writer: Any, shape: Architecture) -> None:
    writer.add_block_count(shape.n_layers)
    writer.add_context_length(shape.max_context)
    writer.add_embedding_length(shape.hidden_size)
    writer.add_feed_forward_length(shape.intermediate_size)
    writer.add_head_count(shape.n_heads)
    writer.add_head_count_kv(shape.n_kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(shape.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(VOCABULARY)
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(VOCABULARY) - len(SPECIAL)))
    writer.add_token_merges(["1 2"])
    writer.add_eos_token_id(2)
    writer.add_chat_template("{% for message in messages %}<|im_start|>{{ message['content'] }}<|im_end|>{% endfor %}")


def random_tensors(shape: Architecture) -> dict[str, Any]:
    import numpy as np

    rng = np.random.default_rng(0)
    queries, keys = shape.n_heads * shape.head_dim, shape.n_kv_heads * shape.head_dim
    sizes: dict[str, tuple[int, ...]] = {
        "token_embd": (shape.vocab_size, shape.hidden_size),
        "output_norm": (shape.hidden_size,),
    }
    for n in range(shape.n_layers):
        sizes |= {
            f"blk.{n}.{name}": (rows, shape.hidden_size)
            for name, rows in [("attn_q", queries), ("attn_k", keys), ("attn_v", keys)]
        }
        sizes |= {f"blk.{n}.{name}": (shape.intermediate_size, shape.hidden_size) for name in ("ffn_gate", "ffn_up")}
        sizes |= {f"blk.{n}.{name}": (shape.hidden_size,) for name in ("attn_norm", "ffn_norm")}
        sizes |= {
            f"blk.{n}.attn_output": (shape.hidden_size, queries),
            f"blk.{n}.ffn_down": (shape.hidden_size, shape.intermediate_size),
        }
    tensors = {f"{name}.weight": rng.normal(size=size).astype(np.float32) for name, size in sizes.items()}
    return tensors | {"output.weight": tensors["token_embd.weight"] + np.float32(0.01)}


def test_a_converted_gguf_is_tied_unquantised_and_splits_digits(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from engine.models import conversion

    gguf = tmp_path / "weights.gguf"
    tensors = write_gguf(gguf, SHAPE)
    conversion.convert(GGUF_MODEL, gguf, tmp_path)
    network: Any = AutoModelForCausalLM.from_pretrained(tmp_path)
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path)
    assert not gguf.exists()
    assert "quantization_config" not in (tmp_path / "config.json").read_text()
    assert sum(p.numel() for p in network.parameters()) == n_params(SHAPE)
    assert torch.equal(network.get_input_embeddings().weight, torch.from_numpy(tensors["output.weight"]))
    assert tokenizer.tokenize("12") == ["1", "2"]
    assert tokenizer.apply_chat_template([{"role": "user", "content": "1"}]).input_ids == [1, VOCABULARY.index("1"), 2]


def test_a_gguf_of_another_architecture_is_refused(tmp_path: Path) -> None:
    from engine.models import conversion

    write_gguf(tmp_path / "weights.gguf", SHAPE)
    longer = replace(GGUF_MODEL, architecture=replace(SHAPE, max_context=1))
    with pytest.raises(ModelError, match=r"expected .* found"):
        conversion.convert(longer, tmp_path / "weights.gguf", tmp_path)
