"""Rotary position embeddings (RoFormer, arXiv 2104.09864) and their long-context variants."""

# Shapes: N tokens, H heads, D head dim.

from __future__ import annotations

import math

import torch
from torch import Tensor

from parathinker.modeling.config import DecoderConfig


class RotaryEmbedding:
    """Cosines and sines for any positions, and the rotation of queries and keys by them."""

    def __init__(self, config: DecoderConfig, device: torch.device) -> None:
        inverse, self._scale = _inverse_frequencies(config)
        self._inverse = inverse.to(device)

    def angles(self, positions_N: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine [N, 1, D] in float32."""
        half = positions_N[:, None].float() * self._inverse[None]
        angles_N1D = torch.cat([half, half], dim=-1)[:, None]
        return angles_N1D.cos() * self._scale, angles_N1D.sin() * self._scale


def rotate(x_NHD: Tensor, cos_N1D: Tensor, sin_N1D: Tensor) -> Tensor:
    """Rotate pairs (i, i + D/2) of every head, the layout of Hugging Face checkpoints."""
    first, second = x_NHD.chunk(2, dim=-1)
    turned = torch.cat([-second, first], dim=-1)
    return x_NHD * cos_N1D.to(x_NHD.dtype) + turned * sin_N1D.to(x_NHD.dtype)


def _inverse_frequencies(config: DecoderConfig) -> tuple[Tensor, float]:
    """Inverse frequencies [D/2] and the factor on cosines and sines."""
    dim, base, scaling = config.head_dim, config.rope_theta, config.rope_scaling
    # Divided in the order in which transformers does it: far positions magnify every rounding.
    powers = base ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim)
    plain = 1.0 / powers
    kind = scaling.get("rope_type")
    if kind == "linear":
        return plain / float(scaling["factor"]), 1.0
    if kind == "llama3":
        return _llama3(plain, scaling), 1.0
    if kind == "yarn":
        return _yarn(powers, dim, base, scaling)
    return plain, 1.0


def _llama3(plain: Tensor, scaling: dict[str, float]) -> Tensor:
    """Llama 3.1: long wavelengths are stretched by ``factor``, short ones kept, others blended."""
    factor, low, high = (
        float(scaling[name]) for name in ("factor", "low_freq_factor", "high_freq_factor")
    )
    original = float(scaling["original_max_position_embeddings"])
    wavelength = 2 * math.pi / plain
    blend = ((original / wavelength - low) / (high - low)).clamp(0.0, 1.0)
    return (1 - blend) * plain / factor + blend * plain


def _yarn(powers: Tensor, dim: int, base: float, scaling: dict[str, float]) -> tuple[Tensor, float]:
    """YaRN (arXiv 2309.00071): blend by how often a dimension turns within the original context."""
    factor = float(scaling["factor"])
    original = float(scaling["original_max_position_embeddings"])

    def dimension_of(turns: float) -> float:
        return dim * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(base))

    low = dimension_of(float(scaling.get("beta_fast") or 32))
    high = dimension_of(float(scaling.get("beta_slow") or 1))
    if scaling.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    ramp = (torch.arange(dim // 2, dtype=torch.float32) - low) / max(high - low, 0.001)
    keep = 1 - ramp.clamp(0.0, 1.0)
    attention = scaling.get("attention_factor")
    if attention is None:

        def mscale(weight: float) -> float:
            return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

        if scaling.get("mscale") and scaling.get("mscale_all_dim"):
            attention = mscale(scaling["mscale"]) / mscale(scaling["mscale_all_dim"])
        else:
            attention = mscale(1.0)
    stretched, plain = 1.0 / (factor * powers), 1.0 / powers
    return stretched * (1 - keep) + plain * keep, float(attention)
