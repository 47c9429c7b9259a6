"""LoRA on vLLM's CPU engine, one matrix product per adapter instead of one per token.

vLLM's own CPU path copies both LoRA matrices for every token (6 times slower than the base model on 15 questions), and
applies the last adapter to tokens of the base model, which is wrong. Here the tokens of a step are grouped by adapter,
and tokens of the base model get no adapter.
"""

from typing import Any

import torch
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU
from vllm.platforms import current_platform


class GroupedLora(PunicaWrapperCPU):
    """Adds to each token's output what its adapter gives; same interface as the class that it replaces."""

    groups: list[tuple[int, torch.Tensor]]

    def update_metadata(self, *args: Any, **kwargs: Any) -> None:
        """Notes, once per step, which tokens belong to which adapter's place (-1: none)."""
        super().update_metadata(*args, **kwargs)
        places = self.token_lora_indices
        self.groups = [(int(p), (places == p).nonzero()[:, 0]) for p in places.unique() if p >= 0]

    def add_lora_linear(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_a_stacked: tuple[torch.Tensor, ...],
        lora_b_stacked: tuple[torch.Tensor, ...],
        scale: float,
        output_slices: tuple[int, ...],
        **_: Any,
    ) -> None:
        """`y[:, slice] += scale · x·Aᵀ·Bᵀ` for each slice; A is [places, 1, rank, in], B [places, 1, out, rank]."""
        y, x = y.view(-1, y.shape[-1]), x.view(-1, x.shape[-1])
        for place, tokens in self.groups:
            inputs, start = x[tokens], 0
            added = [
                scale * (inputs @ a[place, 0].T) @ b[place, 0].T
                for a, b in zip(lora_a_stacked, lora_b_stacked, strict=True)
            ]
            for part, width in zip(added, output_slices, strict=True):
                y[:, start : start + width].index_add_(0, tokens, part[:, :width])
                start += width


def install() -> None:
    """Makes vLLM in this process use it."""
    name = f"{__name__}.{GroupedLora.__name__}"
    setattr(type(current_platform), "get_punica_wrapper", classmethod(lambda cls: name))  # noqa: B010
