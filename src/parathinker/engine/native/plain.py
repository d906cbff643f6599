"""Tensors as the C++ library reads them."""

from __future__ import annotations

import torch
from torch import Tensor


def plain(tensor: Tensor) -> Tensor:
    """The same numbers in float32, contiguous, in the CPU's memory."""
    return tensor.detach().to("cpu", torch.float32).contiguous()
