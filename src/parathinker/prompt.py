"""From a question to prompt token ids, and from token ids back to text.

The model's own chat template is used where it has one. What a user writes is always encoded as
plain text: a question that contains ``<think1>`` or ``<|im_start|>`` gets the ids of those
characters, never the special token's id.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from parathinker.errors import CheckpointError
from parathinker.tokens import ControlTokens, is_control_token

# Private-use characters stand where a message's text belongs while the template is rendered.
_SLOT = "\ue000{}\ue001"
_SLOT_PATTERN = re.compile("\ue000(\\d+)\ue001")


class PromptCodec:
    """A model's tokenizer, split in two: one that knows special tokens, one for users' text."""

    def __init__(
        self, tokenizer_json: str, chat_template: str | None, specials: dict[str, str]
    ) -> None:
        self.tokenizer = Tokenizer.from_str(tokenizer_json)
        self.control = ControlTokens.find(self.tokenizer.get_vocab())
        document = json.loads(tokenizer_json)
        document["added_tokens"] = [
            token
            for token in document.get("added_tokens", [])
            if not token["special"] and not is_control_token(token["content"])
        ]
        self._plain = Tokenizer.from_str(json.dumps(document))
        self._chat_template = chat_template
        self._specials = specials

    @classmethod
    def from_folder(cls, folder: Path) -> PromptCodec:
        """Read ``tokenizer.json``, and the chat template where there is one.

        Raises:
            CheckpointError: no fast tokenizer in the folder, or one without control tokens.
        """
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise CheckpointError(
                f"{folder} has no tokenizer.json; save its tokenizer with "
                "transformers.AutoTokenizer.from_pretrained(...).save_pretrained(...)"
            )
        config: dict[str, Any] = {}
        if (folder / "tokenizer_config.json").is_file():
            config = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
        template = config.get("chat_template")
        if (folder / "chat_template.jinja").is_file():
            template = (folder / "chat_template.jinja").read_text("utf-8")
        if isinstance(template, list):  # several named templates
            template = next((t["template"] for t in template if t["name"] == "default"), None)
        specials = {}
        for name in ("bos_token", "eos_token", "pad_token", "unk_token"):
            value = config.get(name)
            if isinstance(value, dict):
                value = value.get("content")
            if isinstance(value, str):
                specials[name] = value
        try:
            return cls(path.read_text("utf-8"), template, specials)
        except CheckpointError as error:
            raise CheckpointError(str(error).replace("this tokenizer", str(folder), 1)) from None
        except Exception as error:
            raise CheckpointError(f"{path} cannot be read as a tokenizer: {error}") from error

    def encode_question(self, question: str) -> list[int]:
        """Token ids of the prompt for one question: shape [prompt tokens]."""
        if self._chat_template is None:
            return list(self._plain.encode(question).ids)
        return self.encode_chat([{"role": "user", "content": question}])

    def encode_chat(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """Token ids of a conversation up to where the assistant's answer begins."""
        if self._chat_template is None:
            raise CheckpointError("this model has no chat template, so it takes no chat messages")
        slotted = [{**m, "content": _SLOT.format(i)} for i, m in enumerate(messages)]
        rendered = self._render(slotted)
        ids: list[int] = []
        for index, piece in enumerate(_SLOT_PATTERN.split(rendered)):
            if index % 2:
                ids += self.encode_text(messages[int(piece)]["content"])
            elif piece:
                ids += self.tokenizer.encode(piece, add_special_tokens=False).ids
        return ids

    def encode_text(self, text: str) -> list[int]:
        """Token ids of text alone: no special tokens, whatever the text says."""
        return list(self._plain.encode(text, add_special_tokens=False).ids)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of token ids; control tokens and other special tokens are left out."""
        hidden = self.control.ids
        return self.tokenizer.decode([t for t in token_ids if t not in hidden])

    def stream(self) -> TextStream:
        """A decoder for one segment that is being written."""
        return TextStream(self)

    def _render(self, messages: list[dict[str, str]]) -> str:
        from jinja2.exceptions import TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        def refuse(message: str) -> None:
            raise TemplateError(message)

        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals["raise_exception"] = refuse
        try:
            return environment.from_string(self._chat_template or "").render(
                messages=messages, add_generation_prompt=True, **self._specials
            )
        except TemplateError as error:
            raise CheckpointError(f"the model's chat template fails: {error}") from error


class TextStream:
    """Turns token ids into text as they come; holds back bytes that are half a character."""

    def __init__(self, codec: PromptCodec) -> None:
        self._codec = codec
        self._stream = DecodeStream(skip_special_tokens=True)

    def push(self, token_id: int) -> str:
        """Text that became certain with this token; empty for control tokens."""
        if token_id in self._codec.control.ids:
            return ""
        return self._stream.step(self._codec.tokenizer, token_id) or ""
