"""Converts a GGUF to float32 safetensors with tokenizer and chat template. Imports torch and transformers."""

import logging
from pathlib import Path
from typing import Any

import torch
from tokenizers import normalizers, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

from engine.models.architecture import Architecture, ModelError
from engine.models.catalogue import Model, Registry, TokenizerRules

log = logging.getLogger(__name__)


def convert(model: Model, gguf: Path, folder: Path) -> None:
    """Writes the weights and the tokenizer of a registry model into `folder`, and removes the GGUF.

    The weights are float32: these small models run on CPUs, which have no fast bfloat16.
    Raises ModelError if the GGUF is not of the model's architecture.
    """
    assert isinstance(model.source, Registry)
    log.info("converting %s", model.name)
    network = _load_network(gguf, tied=model.architecture.tied_embeddings)
    if (architecture := Architecture.from_config(network.config.to_dict(), gguf)) != model.architecture:
        raise ModelError(f"{model.name}: expected {model.architecture}, found {architecture}")
    network.save_pretrained(folder)
    tokenizer = _load_tokenizer(gguf, model.source.tokenizer_rules)
    tokenizer.model_max_length = model.architecture.max_context
    tokenizer.save_pretrained(folder)
    gguf.unlink()


def _load_network(gguf: Path, tied: bool) -> Any:
    network: Any = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # The saved weights are no longer quantised, so their config must not say that they are.
    del network.config.quantization_config
    network.hf_quantizer = None
    if tied and not network.config.tie_word_embeddings:
        _tie(network)
    return network


def _tie(network: Any) -> None:
    """Ties the embedding to the output head of a GGUF that contains both.

    Both are roundings of the same matrix. The head has more bits, so it is kept.
    """
    head = network.get_output_embeddings().weight.detach()
    network.set_input_embeddings(torch.nn.Embedding.from_pretrained(head, freeze=False))
    network.config.tie_word_embeddings = True
    network.tie_weights()


def _load_tokenizer(gguf: Path, rules: TokenizerRules) -> Any:
    """Loads the GGUF's tokenizer and adds the rule that transformers drops when it reads a GGUF."""
    tokenizer: Any = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    backend = tokenizer.backend_tokenizer
    match rules:
        case "smollm":
            digits = pre_tokenizers.Digits(individual_digits=True)
            backend.pre_tokenizer = pre_tokenizers.Sequence([digits, backend.pre_tokenizer])
        case "qwen2":
            backend.normalizer = normalizers.NFC()
    return tokenizer
