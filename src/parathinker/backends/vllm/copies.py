"""The workers' half of the KV connector: single tokens' keys and values, copied between blocks."""

# Shapes: B blocks, K kv heads, T tokens of a block, W = 2 × head dim, C tokens that are copied.

from __future__ import annotations

import torch
from torch import Tensor

from parathinker.backends.vllm.layout import Ints
from parathinker.backends.vllm.sharing import StepOrders


class Copier:
    """Works on the KV cache of one worker: all layers' blocks, of its share of the heads."""

    def __init__(self) -> None:
        self._layers: list[Tensor] = []
        self._host: dict[int, list[Tensor]] = {}
        self._spills = self._loads = 0

    def register(self, caches_BKTW: dict[str, Tensor], block_tokens: int) -> None:
        """Take over the layers' KV caches.

        Raises:
            RuntimeError: their layout is not one that we know how to copy.
        """
        for name, cache in caches_BKTW.items():
            if cache.ndim != 4 or cache.shape[2] != block_tokens:
                raise RuntimeError(
                    f"the KV cache of {name} has shape {tuple(cache.shape)}; ParaThinker knows "
                    f"[blocks, heads, {block_tokens}, 2 x head dim]: this vLLM or attention "
                    "backend is not supported"
                )
        self._layers = list(caches_BKTW.values())

    def held(self) -> dict[str, int]:
        """Sequences in host memory now, and how many went there and were read there so far."""
        return {"on_host": len(self._host), "spills": self._spills, "loads": self._loads}

    def carry_out(self, orders: StepOrders) -> None:
        """Do what a step asks for."""
        if not self._layers:
            return
        device = self._layers[0].device
        for number, blocks in orders.spills:
            index = torch.tensor(blocks, device=device)
            self._host[number] = [layer.index_select(0, index).cpu() for layer in self._layers]
            self._spills += 1
        if len(orders.copy_to_C):
            from_C, to_C = _on(device, orders.copy_from_C), _on(device, orders.copy_to_C)
            for layer in self._layers:
                copy_tokens(layer, layer, from_C, to_C)
        for number, slots, targets in orders.loads:
            from_C, to_C = _on(device, slots), _on(device, targets)
            for stored, layer in zip(self._host[number], self._layers, strict=True):
                copy_tokens(stored.to(device), layer, from_C, to_C)
            self._loads += 1
        for number in orders.drops:
            self._host.pop(number, None)


def copy_tokens(source_BKTW: Tensor, target_BKTW: Tensor, from_C: Tensor, to_C: Tensor) -> None:
    """Copy tokens between slots, which are block times T plus the place in it."""
    _, K, T, W = target_BKTW.shape
    source = from_C // T, from_C % T
    target = to_C // T, to_C % T
    if target_BKTW.device.type != "cpu":
        target_BKTW[target[0], :, target[1]] = source_BKTW[source[0], :, source[1]]
        return
    # In a CPU block of a head, keys come first, as [head dim, T], then values, as [T, head dim].
    D = W // 2
    for half, tokens_last in ((0, True), (1, False)):
        theirs = source_BKTW.view(-1, K, 2, T * D)[:, :, half]
        ours = target_BKTW.view(-1, K, 2, T * D)[:, :, half]
        if tokens_last:
            picked = theirs.unflatten(-1, (D, T))[source[0], :, :, source[1]]
            ours.unflatten(-1, (D, T))[target[0], :, :, target[1]] = picked
        else:
            picked = theirs.unflatten(-1, (T, D))[source[0], :, source[1]]
            ours.unflatten(-1, (T, D))[target[0], :, target[1]] = picked


def _on(device: torch.device, slots: Ints) -> Tensor:
    return torch.from_numpy(slots).to(device)
