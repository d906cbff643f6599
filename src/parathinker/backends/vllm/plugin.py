"""vLLM's way in: every one of its processes calls :func:`register` when it starts."""

from __future__ import annotations

ARCHITECTURE = "ParaThinkerForCausalLM"


def register() -> None:
    """Make our model known to vLLM; importing it is left to whoever runs it."""
    from vllm import ModelRegistry

    if ARCHITECTURE not in ModelRegistry.get_supported_archs():
        ModelRegistry.register_model(
            ARCHITECTURE, "parathinker.backends.vllm.models:ParaThinkerForCausalLM"
        )
