"""Empties vLLM's cache of keys and values after a model whose numbers overflow.

A place in the cache that held what is not a number gives that to every later request that gets the place, since an
attention of zero times NaN is NaN: one broken adapter spoiled the scores of others and of the base, without an error.
"""

from typing import Any

from vllm import LLM


class ZeroCache:
    """What vLLM's workers can do besides their own: `vllm.LLM(worker_extension_cls=EXTENSION)`."""

    model_runner: Any

    def engram_zero_cache(self) -> None:
        """Sets all keys and values to zero."""
        for cache in self.model_runner.kv_caches:
            cache.zero_()


EXTENSION = f"{__name__}.{ZeroCache.__name__}"


def empty_cache(llm: LLM) -> None:
    """Forgets all keys and values, of prefixes too. No request may be running."""
    if not llm.reset_prefix_cache():
        raise RuntimeError("vLLM still uses its prefix cache: a request is running")
    llm.collective_rpc("engram_zero_cache")
