"""Thought embeddings on a stock transformers model, by hooks rather than a fork.

A layer's thought embedding is one table ``self_attn.seg_embeddings.weight`` [rows, head_dim]. The
row of a token's thought id is added to the key that RoPE will see (after ``k_norm`` where the
architecture has one) and to the value, the same vector for every kv head. Row 0 belongs to prompt
and summary tokens and is added too.
"""

# Shapes: B batch, S sequence, K kv heads, D head dim.

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from parathinker.errors import CheckpointError, UsageError
from parathinker.modeling.config import (
    SUPPORTED_MODEL_TYPES,
    THOUGHT_EMBEDDING_MODULE,
    THOUGHT_EMBEDDING_ROWS,
    is_thought_embedding,
)


def attach_thought_embeddings(
    model: nn.Module, rows: int = THOUGHT_EMBEDDING_ROWS, std: float = 0.0
) -> nn.Module:
    """Give every attention layer of a transformers causal LM a thought embedding; in place.

    Call the model with ``thought_ids=`` [B, S] (int64) beside ``input_ids`` from then on; without
    it every token counts as thought id 0. ``save_pretrained`` saves the tables with the rest.

    Args:
        model: a ``transformers`` causal LM of a supported architecture.
        rows: rows of each table; thought ids run from 0 to ``rows - 1``.
        std: standard deviation of the initial values; 0 leaves the model's function unchanged.

    Raises:
        UsageError: the architecture is not supported, or embeddings are attached already.
    """
    config: Any = model.config
    if config.model_type not in SUPPORTED_MODEL_TYPES:
        raise UsageError(
            f"cannot attach thought embeddings to a {config.model_type!r} model; supported: "
            f"{', '.join(SUPPORTED_MODEL_TYPES)}"
        )
    layers: Any = model.model.layers  # type: ignore[union-attr]
    for layer in layers:
        attention = layer.self_attn
        if hasattr(attention, THOUGHT_EMBEDDING_MODULE):
            raise UsageError("this model has thought embeddings already")
        weight = attention.k_proj.weight
        # Quantised weights are stored as integers; the table is as exact as what they stand for.
        dtype = weight.dtype if weight.is_floating_point() else model.dtype
        table = nn.Embedding(rows, attention.head_dim, device=weight.device, dtype=dtype)
        nn.init.normal_(table.weight, 0.0, std)
        setattr(attention, THOUGHT_EMBEDDING_MODULE, table)
        _hook(attention)
    return model


def load_thought_embeddings(model: nn.Module, folder: Path) -> bool:
    """Attach and fill thought embeddings from a checkpoint folder; False if it holds none.

    Without any in the folder nothing is attached.

    Raises:
        CheckpointError: only some layers have a table, or one of another shape.
    """
    from safetensors import safe_open

    tables: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            names = [name for name in list(tensors.keys()) if is_thought_embedding(name)]
            tables.update({name: tensors.get_tensor(name) for name in names})
    if not tables:
        return False
    rows = next(iter(tables.values())).shape[0]
    attach_thought_embeddings(model, rows)
    parameters = {n: p for n, p in model.named_parameters() if is_thought_embedding(n)}
    for name, parameter in parameters.items():
        if name not in tables:
            raise CheckpointError(f"{folder} lacks {name} while other layers have theirs")
        if tables[name].shape != parameter.shape:
            raise CheckpointError(
                f"{folder}: tensor {name} has shape {list(tables[name].shape)}, expected "
                f"{list(parameter.shape)}"
            )
    model.load_state_dict(tables, strict=False)
    return True


def _hook(attention: nn.Module) -> None:
    """Have ``attention`` add its table's rows to keys and values.

    The thought ids arrive as a keyword of the attention layer itself, so a layer that is run
    again for gradient checkpointing gets them again.
    """
    module: Any = attention
    state: dict[str, Tensor | None] = {"rows_BSD": None}

    def remember(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        thought_ids_BS = kwargs.pop("thought_ids", None)
        table = getattr(module, THOUGHT_EMBEDDING_MODULE)
        if thought_ids_BS is None:
            state["rows_BSD"] = table.weight[0].view(1, 1, -1)
        else:
            state["rows_BSD"] = table(thought_ids_BS)
        return args, kwargs

    def add_flat(_: nn.Module, args: Any, output: Tensor) -> Tensor:
        rows_BSD = state["rows_BSD"]
        assert rows_BSD is not None
        heads = output.shape[-1] // rows_BSD.shape[-1]
        rows_BSKD = rows_BSD.to(output.dtype).unsqueeze(2).expand(-1, -1, heads, -1)
        return output + rows_BSKD.flatten(2)

    def add_by_head(_: nn.Module, args: Any, output: Tensor) -> Tensor:
        rows_BSD = state["rows_BSD"]
        assert rows_BSD is not None
        return output + rows_BSD.to(output.dtype).unsqueeze(2)

    module.register_forward_pre_hook(remember, with_kwargs=True)
    module.v_proj.register_forward_hook(add_flat)
    if hasattr(module, "k_norm"):
        module.k_norm.register_forward_hook(add_by_head)
    else:
        module.k_proj.register_forward_hook(add_flat)
