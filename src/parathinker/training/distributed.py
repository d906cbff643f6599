"""Several processes on one run: who writes, and how all agree.

``torchrun`` and ``accelerate launch`` say in the environment how many processes there are; without
them there is one. All of them read and write the run's folder, so machines have to share it.
"""

from __future__ import annotations

import os
from typing import Any


def world_size() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this is the process that writes and speaks."""
    return int(os.environ.get("RANK", "0")) == 0


def is_sharded() -> bool:
    """Whether accelerate was told to split weights and optimiser among the processes."""
    return any(
        os.environ.get(f"ACCELERATE_USE_{how}", "false").lower() == "true"
        for how in ("FSDP", "DEEPSPEED")
    )


def processes() -> Any:
    """accelerate's ``PartialState``, with ``wait_for_everyone`` and ``main_process_first``."""
    import torch
    from accelerate import PartialState

    return PartialState(cpu=not torch.cuda.is_available())


def any_of(flag: bool, device: Any) -> bool:
    """Whether ``flag`` is set in any process; all have to ask."""
    if world_size() == 1:
        return flag
    import torch

    seen = torch.tensor(float(flag), device=device)
    torch.distributed.all_reduce(seen, op=torch.distributed.ReduceOp.MAX)
    return bool(seen)
