"""From a question to prompt token ids, and from token ids back to text.

The model's own chat template is used where it has one. What a user writes is always encoded as
plain text: a question that contains ``<think1>`` or ``<|im_start|>`` gets the ids of those
characters, never the special token's id. For that, text is read by a twin of the tokenizer which
knows every special token under a secret name only; the template's own ones are put in by it.
"""

from __future__ import annotations

import datetime
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from parathinker.errors import CheckpointError, UsageError
from parathinker.modeling.config import read_json_object
from parathinker.tokens import ControlTokens, is_control_token, think_open

# Private-use characters stand where a message's text belongs while the template is rendered.
_SLOT = "\ue000{}\ue001"
_SLOT_PATTERN = re.compile("\ue000(\\d+)\ue001")


@dataclass(frozen=True)
class RawPrompt:
    """A question whose text is the whole prompt: no chat template around it.

    In front of it stands only what the tokenizer puts in front of any text, such as a token for
    its beginning. As in all that users write, names of special tokens are nothing special.
    """

    text: str


class PromptCodec:
    """A model's tokenizer and chat template, safe against special tokens in users' text.

    Args:
        plain: the model need not have control tokens; some of them only are still refused.
    """

    def __init__(
        self,
        tokenizer_json: str,
        chat_template: str | None,
        specials: dict[str, str],
        plain: bool = False,
    ) -> None:
        self.tokenizer = Tokenizer.from_str(tokenizer_json)
        vocabulary = self.tokenizer.get_vocab()
        self._control = None
        if not plain or think_open(1) in vocabulary:
            self._control = ControlTokens.find(vocabulary)
        document = json.loads(tokenizer_json)
        names = {
            token["content"]
            for token in document.get("added_tokens", [])
            if token["special"] or is_control_token(token["content"])
        }
        nonce = secrets.token_hex(8)
        self._secret_names = {
            name: f"\ue002{nonce}.{i}\ue003" for i, name in enumerate(sorted(names))
        }
        self._special = re.compile(
            "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
        )
        self._twin = Tokenizer.from_str(json.dumps(_renamed(document, self._secret_names)))
        # A tokenizer.json may remember how its last user cut and padded texts.
        self._twin.no_truncation()
        self._twin.no_padding()
        self._hidden = self.control_ids
        self._chat_template = chat_template
        self._specials = specials

    @classmethod
    def from_folder(cls, folder: Path, plain: bool = False) -> PromptCodec:
        """Read ``tokenizer.json``, and the chat template where there is one.

        Raises:
            CheckpointError: no fast tokenizer in the folder, or one without control tokens and not
                to be ``plain``.
        """
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise CheckpointError(
                f"{folder} has no tokenizer.json; save its tokenizer with "
                "transformers.AutoTokenizer.from_pretrained(...).save_pretrained(...)"
            )
        config, template = _tokenizer_config(folder), read_chat_template(folder)
        specials = {}
        for name in ("bos_token", "eos_token", "pad_token", "unk_token"):
            value = config.get(name)
            if isinstance(value, dict):
                value = value.get("content")
            if isinstance(value, str):
                specials[name] = value
        try:
            return cls(path.read_text("utf-8"), template, specials, plain)
        except CheckpointError as error:
            raise CheckpointError(str(error).replace("this tokenizer", str(folder), 1)) from None
        except Exception as error:
            raise CheckpointError(f"{path} cannot be read as a tokenizer: {error}") from error

    @property
    def control(self) -> ControlTokens:
        """The control tokens.

        Raises:
            CheckpointError: this model has none.
        """
        if self._control is None:
            raise CheckpointError(
                "this model was loaded as a plain one and has no control tokens, so it cannot "
                "think in parallel; it can complete() a prompt. To add the tokens to a copy of it: "
                "parathinker models prepare FOLDER NEW_FOLDER"
            )
        return self._control

    @property
    def max_paths(self) -> int:
        """How many paths the tokenizer can tell apart; 0 where it has no control tokens."""
        return 0 if self._control is None else self._control.max_paths

    @property
    def control_ids(self) -> frozenset[int]:
        """Ids of all control tokens there are."""
        return frozenset() if self._control is None else self._control.ids

    def encode_question(self, question: str) -> list[int]:
        """Token ids of the prompt for one question: shape [prompt tokens]."""
        if self._chat_template is None:
            return self.encode_raw(question)
        return self.encode_chat([{"role": "user", "content": question}])

    def encode_raw(self, text: str) -> list[int]:
        """Token ids of a prompt that is just this text, behind what the tokenizer begins with."""
        return self._encode(text, add_special_tokens=True)

    def encode_chat(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """Token ids of a conversation up to where the assistant's answer begins.

        Raises:
            UsageError: a role is no plain word, a text is not valid Unicode, or the chat template
                refuses the messages.
            CheckpointError: there is no chat template, or a broken one.
        """
        if self._chat_template is None:
            raise CheckpointError("this model has no chat template, so it takes no chat messages")
        for message in messages:
            if not re.fullmatch(r"[A-Za-z_]+", message["role"]):
                raise UsageError(f"role should be a plain word; got {message['role']!r}")
        return self._encode_messages(messages)

    def _encode_messages(
        self, messages: Sequence[dict[str, str]], behind: int | None = None
    ) -> list[int]:
        """Token ids of messages in the template, or of what stands behind one message's text."""
        slotted = [{**m, "content": _SLOT.format(i)} for i, m in enumerate(messages)]
        pieces = _SLOT_PATTERN.split(self._render(slotted))
        if behind is not None:
            if str(behind) not in pieces[1::2]:
                raise CheckpointError("the model's chat template leaves earlier answers out")
            pieces = ["", "", *pieces[pieces.index(str(behind), 1) + 1 :]]
        return self._encode(
            "".join(
                (messages[int(piece)]["content"] if piece else "")
                if index % 2
                else self._disguise(piece)
                for index, piece in enumerate(pieces)
            )
        )

    def encode_follow_up(self, question: str) -> list[int]:
        """Token ids of a further question, from where the assistant's last answer ended."""
        if self._chat_template is None:
            return self._encode("\n" + question)
        messages = [
            {"role": "user", "content": ""},
            {"role": "assistant", "content": ""},
            {"role": "user", "content": question},
        ]
        return self._encode_messages(messages, behind=1)

    def encode_text(self, text: str) -> list[int]:
        """Token ids of text alone: no special tokens, whatever the text says."""
        return self._encode(text)

    def _encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise UsageError(f"a text is not valid Unicode: {error}") from error
        return list(self._twin.encode(text, add_special_tokens=add_special_tokens).ids)

    def _disguise(self, template_text: str) -> str:
        """The template's own text with its special tokens under their secret names."""
        if not self._secret_names:
            return template_text
        return self._special.sub(lambda found: self._secret_names[found[0]], template_text)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of token ids; control tokens and other special tokens are left out."""
        return self.tokenizer.decode([t for t in token_ids if t not in self._hidden])

    def stream(self) -> TextStream:
        """A decoder for one segment that is being written."""
        return TextStream(self)

    def _render(self, messages: list[dict[str, str]]) -> str:
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        def refuse(message: str) -> None:
            raise UsageError(f"the model's chat template refuses these messages: {message}")

        def to_json(value: Any, **options: Any) -> str:
            return json.dumps(value, ensure_ascii=False, **options)

        # The environment that transformers gives to templates.
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = to_json
        environment.globals["raise_exception"] = refuse
        environment.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
        try:
            return environment.from_string(self._chat_template or "").render(
                messages=messages,
                tools=None,
                documents=None,
                add_generation_prompt=True,
                **self._specials,
            )
        except UsageError:
            raise
        except Exception as error:  # a template is a program: anything can go wrong in it
            raise CheckpointError(f"the model's chat template fails: {error}") from error


class TextStream:
    """Turns one segment's token ids into text as they come; holds back half characters.

    Texts of all pushes together are :meth:`PromptCodec.decode` of all token ids.
    """

    def __init__(self, codec: PromptCodec) -> None:
        self._codec = codec
        self._ids: list[int] = []
        # Decoders look at neighbouring tokens: text since _shown is that since _context, less
        # what lies between the two.
        self._context = self._shown = 0

    def push(self, token_id: int, last: bool = False) -> str:
        """Text that became certain with this token; ``last``: no more tokens will come."""
        self._ids.append(token_id)
        before = self._codec.decode(self._ids[self._context : self._shown])
        text = self._codec.decode(self._ids[self._context :])
        if text.endswith("\ufffd") and not last:
            return ""
        fresh = text[len(before) :]
        if fresh:
            self._context, self._shown = self._shown, len(self._ids)
        return fresh


def _renamed(document: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """A tokenizer.json with special tokens renamed wherever they stand; ids stay."""
    model = dict(document["model"])
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, dict):
        model["vocab"] = {names.get(token, token): i for token, i in vocabulary.items()}
    elif isinstance(vocabulary, list):
        model["vocab"] = [[names.get(token, token), score] for token, score in vocabulary]
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    added = [
        {**token, "content": names.get(token["content"], token["content"])}
        for token in document.get("added_tokens", [])
    ]
    return {**document, "model": model, "added_tokens": added}


def read_chat_template(folder: Path) -> str | None:
    """The chat template in a model's folder, None if there is none."""
    template = _tokenizer_config(folder).get("chat_template")
    if (folder / "chat_template.jinja").is_file():
        template = (folder / "chat_template.jinja").read_text("utf-8")
    if isinstance(template, list):  # several named templates
        template = next((t["template"] for t in template if t["name"] == "default"), None)
    return template


def _tokenizer_config(folder: Path) -> dict[str, Any]:
    file = folder / "tokenizer_config.json"
    return read_json_object(file) if file.is_file() else {}
