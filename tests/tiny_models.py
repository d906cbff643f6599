"""Tiny random models on disk, and tokenizers for them: what most tests run on.

The weights are random but not meek: logits are far from uniform, thought embeddings and biases are
large, and the closing tokens of paths are likely enough for paths to end at different times.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from parathinker.modeling.thought_embedding import attach_thought_embeddings
from parathinker.tokens import ControlTokens, add_control_tokens, control_token_names

EOS = "<|endoftext|>"
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CHATML = ("<|im_start|>", "<|im_end|>")


def byte_tokenizer(*specials: str) -> Tokenizer:
    """One token a byte, then ``specials``, and no control tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in specials])
    return tokenizer


def fast_tokenizer(tokenizer: Tokenizer, **options: Any) -> Any:
    """The same as transformers wraps it."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **options)


def build_model(
    model_type: str = "llama",
    *,
    tied: bool = True,
    vocab_size: int = 300,
    layers: int = 2,
    seed: int = 0,
    **config: Any,
) -> Any:
    """A random transformers causal LM in float32: hidden 64, 4 heads on 2 kv heads of size 16."""
    from transformers import AutoConfig, AutoModelForCausalLM

    options = {
        "vocab_size": vocab_size,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": tied,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
        "attn_implementation": "eager",
    }
    options.update(config)
    settings = AutoConfig.for_model(model_type, **options)
    settings.head_dim = options["head_dim"]  # some architectures take it only as an attribute
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(settings, dtype=torch.float32).eval()
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(parameter, 0.0, 0.5)
            elif "norm" in name:
                torch.nn.init.normal_(parameter, 1.0, 0.2)
            elif "embed_tokens" in name or "lm_head" in name:
                torch.nn.init.normal_(parameter, 0.0, 0.3)
            else:
                torch.nn.init.normal_(parameter, 0.0, 1.4 * parameter.shape[1] ** -0.5)
    return model


def save_random_model(
    folder: Path,
    model_type: str = "llama",
    *,
    tied: bool = True,
    max_paths: int = 8,
    thought_std: float | None = 0.5,
    closing: float = 3.0,
    chat_template: str | None = None,
    seed: int = 0,
    **config: Any,
) -> Path:
    """Save a random model, with thought embeddings unless ``thought_std`` is None, and return it.

    Args:
        closing: scale of the closing tokens' output rows; the larger, the sooner paths end.
    """
    tokenizer = fast_tokenizer(byte_tokenizer(EOS, *CHATML), chat_template=chat_template)
    control = add_control_tokens(tokenizer, max_paths)
    end = tokenizer.convert_tokens_to_ids(EOS)
    model = build_model(
        model_type, tied=tied, vocab_size=len(tokenizer), seed=seed, eos_token_id=end, **config
    )
    with torch.no_grad():
        model.get_output_embeddings().weight[list(control.closes)] *= closing
        model.get_output_embeddings().weight[control.summary_close] *= closing
    if thought_std is not None:
        with torch.random.fork_rng():
            torch.manual_seed(seed + 1)
            attach_thought_embeddings(model, max(32, max_paths + 1), thought_std)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_plain_model(
    folder: Path,
    model_type: str = "qwen2",
    *,
    tied: bool = False,
    ending: float = 3.0,
    chat_template: str | None = None,
    seed: int = 0,
    **config: Any,
) -> Path:
    """Save a random model without control tokens and thought embeddings, and return its folder.

    Args:
        ending: scale of the end token's output row; the larger, the sooner texts end.
    """
    tokenizer = fast_tokenizer(byte_tokenizer(EOS, *CHATML), chat_template=chat_template)
    end = tokenizer.convert_tokens_to_ids(EOS)
    model = build_model(
        model_type, tied=tied, vocab_size=len(tokenizer), seed=seed, eos_token_id=end, **config
    )
    with torch.no_grad():
        model.get_output_embeddings().weight[end] *= ending
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_released_model(
    folder: Path,
    *,
    special: bool = True,
    dtype: torch.dtype = torch.bfloat16,
    closing: float = 1.0,
    head_dim: int = 16,
) -> int:
    """Save a random model in the released format, and return the first control token's id.

    It is a Qwen2 with YaRN, a padded vocabulary, the control tokens behind those of the base model,
    and thought embeddings [32, head_dim].

    Args:
        special: whether the tokenizer lists the control tokens as special ones.
        closing: scale of the closing tokens' output rows.
        head_dim: the released models' follows from their other sizes, and is not stated.
    """
    tokenizer = byte_tokenizer(EOS, "<|im_start|>")
    tokenizer.add_tokens(["<tool_call>", "</tool_call>", "<think>", "</think>"])
    base = len(tokenizer.get_vocab())
    tokenizer.add_tokens(released_control_tokens(special))
    fast_tokenizer(tokenizer).save_pretrained(folder)
    config = {
        "architectures": ["Qwen2ForCausalLM"],
        "attention_dropout": 0.0,
        "bos_token_id": 256,
        "eos_token_id": 256,
        "hidden_act": "silu",
        "hidden_size": 64,
        "initializer_range": 0.02,
        "intermediate_size": 96,
        "max_position_embeddings": 131072,
        "max_window_layers": 21,
        "model_type": "qwen2",
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-06,
        "rope_theta": 10000,
        "rope_scaling": {
            "type": "yarn",
            "factor": 4.0,
            "original_max_position_embeddings": 32768,
        },
        "sliding_window": 4096,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "use_mrope": False,
        "use_sliding_window": False,
        "vocab_size": 320,
    }
    if head_dim != config["hidden_size"] // config["num_attention_heads"]:
        config["head_dim"] = head_dim
    (folder / "config.json").write_text(json.dumps(config))
    model = build_model("qwen2", tied=False, vocab_size=320, head_dim=head_dim)
    tensors = model.state_dict()
    control = control_of(tokenizer)
    tensors["lm_head.weight"][[*control.closes, control.summary_close]] *= closing
    generator = torch.Generator().manual_seed(3)
    for layer in (0, 1):
        table = f"model.layers.{layer}.self_attn.seg_embeddings.weight"
        tensors[table] = torch.randn(32, head_dim, generator=generator) * 0.5
    save_file(
        {name: tensor.to(dtype).contiguous() for name, tensor in tensors.items()},
        folder / "model.safetensors",
    )
    return base


def control_of(tokenizer: Tokenizer) -> ControlTokens:
    """A tokenizer's control tokens."""
    return ControlTokens.find(tokenizer.get_vocab())


def released_control_tokens(special: bool) -> list[AddedToken]:
    """The control tokens as a released checkpoint's tokenizer lists them."""
    return [AddedToken(name, special=special, normalized=False) for name in control_token_names(8)]
