"""The model that a recipe starts from: transformers weights with thought embeddings attached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from parathinker.errors import CheckpointError, MissingExtraError, UsageError
from parathinker.modeling.config import (
    SUPPORTED_MODEL_TYPES,
    THOUGHT_EMBEDDING_MODULE,
    DecoderConfig,
)
from parathinker.modeling.folders import resolve_model
from parathinker.modeling.thought_embedding import (
    attach_thought_embeddings,
    load_thought_embeddings,
)
from parathinker.tokens import add_control_tokens
from parathinker.training import attention
from parathinker.training.recipe import ModelRecipe


def build_model(recipe: ModelRecipe, seed: int) -> tuple[Any, Any]:
    """A causal LM and its tokenizer, both with control tokens, ready to train.

    Raises:
        UsageError: an unknown architecture or tokenizer.
        CheckpointError: the base model is unknown, damaged or of an unsupported architecture.
        MissingExtraError: the ``train`` extra is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise MissingExtraError("training", "train") from error
    attention.register()
    transformers.set_seed(seed)
    if recipe.init is not None:
        options = dict(recipe.init)
        model_type = options.pop("model_type")
        if model_type not in SUPPORTED_MODEL_TYPES:
            raise UsageError(
                f"recipe: model_type {model_type!r} is not supported; supported: "
                f"{', '.join(SUPPORTED_MODEL_TYPES)}"
            )
        tokenizer = _fresh_tokenizer(recipe.tokenizer)
        control = add_control_tokens(tokenizer, recipe.max_paths)
        config = transformers.AutoConfig.for_model(
            model_type,
            vocab_size=len(tokenizer),
            bos_token_id=None,
            eos_token_id=control.summary_close,
            pad_token_id=control.pad,
            attn_implementation=attention.NAME,
            **options,
        )
        model = transformers.AutoModelForCausalLM.from_config(config)
        _init_small(model)
        attach_thought_embeddings(
            model, recipe.thought_embedding_rows, recipe.thought_embedding_std
        )
    else:
        assert recipe.base is not None
        model, tokenizer = load_model(resolve_model(recipe.base))
        add_control_tokens(tokenizer, recipe.max_paths)
        if len(tokenizer) > model.get_input_embeddings().num_embeddings:
            model.resize_token_embeddings(len(tokenizer))
        if not hasattr(model.model.layers[0].self_attn, THOUGHT_EMBEDDING_MODULE):
            attach_thought_embeddings(
                model, recipe.thought_embedding_rows, recipe.thought_embedding_std
            )
    model.config.parathinker = recipe.parathinker
    return model, tokenizer


def load_model(folder: Path, attn_implementation: str = attention.NAME) -> tuple[Any, Any]:
    """A checkpoint as a transformers model, its thought embeddings attached where it has any.

    Raises:
        CheckpointError: it is missing, damaged or of an unsupported architecture.
    """
    import transformers
    from safetensors import SafetensorError

    attention.register()
    DecoderConfig.from_folder(folder)  # names what is wrong with it better than transformers does
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder,
            dtype="float32",
            attn_implementation=attn_implementation,
            use_safetensors=True,
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{folder} cannot be loaded: {error}") from error
    load_thought_embeddings(model, folder)
    return model, tokenizer


def _init_small(model: Any) -> None:
    """Scale of fresh weights for small models: 1/sqrt(fan in), residual outputs by depth.

    transformers' fixed 0.02 is made for wide models and learns late at width 128.
    """
    import torch

    depth = model.config.num_hidden_layers
    for name, parameter in model.named_parameters():
        if parameter.dim() != 2 or "embed" in name or "lm_head" in name:
            continue
        std = parameter.shape[1] ** -0.5
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            std *= (2 * depth) ** -0.5
        torch.nn.init.normal_(parameter, 0.0, std)


def _fresh_tokenizer(task: str | None) -> Any:
    """A small byte-level BPE: the task's words as tokens, digits one by one, any text encodable."""
    if task != "products":
        raise UsageError(f"recipe: model.tokenizer {task!r} is unknown; known: products")
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from parathinker.data.products import tokenizer_corpus

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        tokenizer_corpus(),
        trainers.BpeTrainer(
            vocab_size=1000,
            min_frequency=2,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)
