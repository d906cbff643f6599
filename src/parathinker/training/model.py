"""The model that a recipe starts from: transformers weights with thought embeddings attached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from parathinker.errors import CheckpointError, MissingExtraError, UsageError
from parathinker.modeling.adapter import add_adapter, load_adapter
from parathinker.modeling.adapter_base import AdapterBase, is_adapter
from parathinker.modeling.config import SUPPORTED_MODEL_TYPES, DecoderConfig
from parathinker.modeling.folders import adapter_folder, embedded_models, resolve_model
from parathinker.modeling.prepare import ready_model
from parathinker.modeling.thought_embedding import (
    attach_thought_embeddings,
    load_thought_embeddings,
)
from parathinker.tokens import ControlTokens, add_control_tokens
from parathinker.training import attention, flex
from parathinker.training.recipe import ModelRecipe


def build_model(recipe: ModelRecipe, seed: int) -> tuple[Any, Any]:
    """A causal LM and its tokenizer, both with control tokens, ready to train.

    Raises:
        UsageError: an unknown architecture or tokenizer; LoRA that does not fit the base.
        CheckpointError: the base model is unknown, damaged or of an unsupported architecture.
        MissingExtraError: the ``train`` extra is not installed, or ``qlora`` where it is needed.
    """
    try:
        import transformers
    except ImportError as error:
        raise MissingExtraError("training", "train") from error
    transformers.set_seed(seed)
    if recipe.lora is not None and recipe.lora.adapter is not None:
        adapter = adapter_folder(recipe.lora.adapter)
        if not is_adapter(adapter):
            raise UsageError(f"recipe: model.lora.adapter {adapter} is no folder with an adapter")
        return continue_model(adapter, recipe)
    if recipe.init is not None:
        options = dict(recipe.init)
        model_type = options.pop("model_type")
        if model_type not in SUPPORTED_MODEL_TYPES:
            raise UsageError(
                f"recipe: model_type {model_type!r} is not supported; supported: "
                f"{', '.join(SUPPORTED_MODEL_TYPES)}"
            )
        tokenizer = fresh_tokenizer(recipe.tokenizer)
        control = add_control_tokens(tokenizer, recipe.max_paths)
        config = transformers.AutoConfig.for_model(
            model_type,
            vocab_size=len(tokenizer),
            bos_token_id=None,
            eos_token_id=control.summary_close,
            pad_token_id=control.pad,
            attn_implementation=attention_name(recipe.attention),
            **options,
        )
        model = transformers.AutoModelForCausalLM.from_config(config)
        _init_small(model)
        attach_thought_embeddings(
            model, recipe.thought_embedding_rows, recipe.thought_embedding_std
        )
    else:
        assert recipe.base is not None
        name = attention_name(recipe.attention)
        options = {"dtype": recipe.dtype, "attn_implementation": name}
        if recipe.lora is not None and recipe.lora.quantize is not None:
            options |= _nf4()
        model, tokenizer = ready_model(
            resolve_model(recipe.base),
            recipe.max_paths,
            recipe.thought_embedding_rows,
            recipe.thought_embedding_std,
            **options,
        )
        control = ControlTokens.find(tokenizer.get_vocab())
    model.config.parathinker = recipe.parathinker
    if recipe.lora is not None:
        lora = recipe.lora
        model = add_adapter(
            model, control, lora.rank, lora.alpha, lora.dropout, lora.target_modules
        )
    return model, tokenizer


def attention_name(asked: str = "auto") -> str:
    """The attention to train with on this machine, by the name that transformers now know it by.

    Raises:
        UsageError: FlexAttention was asked for where it cannot go backward.
    """
    import torch

    cuda = torch.cuda.is_available()
    if asked == "flex" and not cuda:
        raise UsageError(
            "recipe: model.attention flex trains on CUDA only, and there is no such device here; "
            "auto and structured train anywhere"
        )
    attention.register()
    return flex.NAME if asked != "structured" and cuda else attention.NAME


def adapter_base(recipe: ModelRecipe) -> AdapterBase:
    """What an adapter that is trained by this recipe goes on."""
    assert recipe.base is not None
    base = recipe.base
    if base not in embedded_models() and Path(base).is_dir():
        base = str(Path(base).resolve())  # the adapter may be used from anywhere
    return AdapterBase(base, recipe.max_paths, recipe.thought_embedding_rows, recipe.parathinker)


def continue_model(folder: Path, recipe: ModelRecipe) -> tuple[Any, Any]:
    """What an earlier stage of a recipe made, to train it further."""
    name = attention_name(recipe.attention)
    if recipe.lora is None:
        return load_model(folder, name, recipe.dtype)
    options = {"dtype": recipe.dtype, "attn_implementation": name}
    if recipe.lora.quantize is not None:
        options |= _nf4()
    return load_adapter(folder, trainable=True, **options)


def _nf4() -> dict[str, Any]:
    """Options that load a base in four bits.

    Raises:
        MissingExtraError: bitsandbytes is not installed.
        UsageError: there is no CUDA device.
    """
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("QLoRA (model.lora.quantize: nf4)", "qlora") from error
    import torch
    from transformers import BitsAndBytesConfig

    if not torch.cuda.is_available():
        raise UsageError(
            "recipe: model.lora.quantize nf4 needs a CUDA device, and there is none; without it "
            "LoRA runs anywhere"
        )
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"quantization_config": quantization, "device_map": {"": torch.cuda.current_device()}}


def load_model(
    folder: Path, attn_implementation: str | None = None, dtype: str = "float32"
) -> tuple[Any, Any]:
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
            dtype=dtype,
            attn_implementation=attn_implementation or attention_name(),
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


def fresh_tokenizer(task: str | None) -> Any:
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
