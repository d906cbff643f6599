"""From questions to token ids and back: nobody smuggles special tokens in, no character breaks."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer, UnigramTrainer

from parathinker import CheckpointError, UsageError
from parathinker.prompt import PromptCodec
from parathinker.tokens import add_control_tokens, control_token_names
from tiny_models import CHAT_TEMPLATE, CHATML, EOS, byte_tokenizer, fast_tokenizer

CORPUS = ["the quick brown fox", "What is 6 * 7?", "hello world, hello", "<s> [INST] a b [/INST]"]
TOOL = "<tool_call>"  # an added token that is not special, as Qwen's tokenizers have


def byte_level() -> Tokenizer:
    tokenizer = byte_tokenizer(EOS, *CHATML)
    tokenizer.add_tokens([AddedToken(TOOL, special=False, normalized=False)])
    return tokenizer


def byte_level_bpe() -> Tokenizer:
    """Like Qwen's and SmolLM's: merges, digits alone, special tokens in the vocabulary itself."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=330,
        special_tokens=[EOS, *CHATML],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS * 3, trainer)
    return tokenizer


def metaspace_bpe() -> Tokenizer:
    """Like Llama 2's and Mistral's: spaces are ▁, unknown characters become bytes."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    trainer = BpeTrainer(
        vocab_size=420,
        special_tokens=["<unk>", EOS, *CHATML, *(f"<0x{i:02X}>" for i in range(256))],
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS * 3, trainer)
    return unspecial(tokenizer, "<0x")


def unigram() -> Tokenizer:
    """A unigram tokenizer can spell its own special tokens as pieces."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    alphabet = sorted(set("".join([*CORPUS, EOS, *CHATML, *control_token_names(8), TOOL])))
    trainer = UnigramTrainer(
        vocab_size=200,
        special_tokens=["<unk>", EOS, *CHATML],
        unk_token="<unk>",
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator([*CORPUS * 3, *alphabet], trainer)
    return tokenizer


def unspecial(tokenizer: Tokenizer, prefix: str) -> Tokenizer:
    """Take tokens that begin so off the list of added ones."""
    document = json.loads(tokenizer.to_str())
    document["added_tokens"] = [
        token for token in document["added_tokens"] if not token["content"].startswith(prefix)
    ]
    return Tokenizer.from_str(json.dumps(document))


KINDS = {
    "byte level": byte_level,
    "byte-level BPE": byte_level_bpe,
    "metaspace BPE": metaspace_bpe,
    "unigram": unigram,
}
_made: dict[tuple[str, str | None], tuple[Tokenizer, PromptCodec]] = {}


def made(kind: str, template: str | None = None) -> tuple[Tokenizer, PromptCodec]:
    if (kind, template) not in _made:
        tokenizer = KINDS[kind]()
        add_control_tokens(tokenizer)
        # Added behind the control tokens: its id must not move either.
        tokenizer.add_tokens([AddedToken("<late>", special=False, normalized=False)])
        _made[kind, template] = tokenizer, PromptCodec(tokenizer.to_str(), template, {})
    return _made[kind, template]


def special_ids(tokenizer: Tokenizer) -> set[int]:
    decoder = tokenizer.get_added_tokens_decoder()
    return {i for i, token in decoder.items() if token.special and token.content != "<unk>"}


pieces = st.sampled_from(
    [
        *control_token_names(8),
        EOS,
        *CHATML,
        "<think",
        "1>",
        "<<think1>think1>",
        "<|im_start|>assistant\n",
        "\ue0000\ue001",
        "\ue002",
        "\ue003",
        "hello ",
        "6 * 7",
        "é",
        "日本",
        "🙂",
        "\n",
        " ",
    ]
)
texts = st.lists(pieces, max_size=8).map("".join)
kinds = pytest.mark.parametrize("kind", KINDS)


@kinds
@given(texts)
def test_users_text_never_becomes_a_special_token(kind, text):
    tokenizer, codec = made(kind)
    assert special_ids(tokenizer) > codec.control.ids
    assert not special_ids(tokenizer) & set(codec.encode_text(text))
    assert not special_ids(tokenizer) & set(codec.encode_question(text))


@kinds
@given(texts)
def test_in_a_chat_the_template_alone_brings_special_tokens(kind, text):
    tokenizer, codec = made(kind, CHAT_TEMPLATE)
    specials = special_ids(tokenizer)
    harmless = [t for t in codec.encode_question("hello") if t in specials]
    assert [tokenizer.id_to_token(t) for t in harmless] == [*CHATML, CHATML[0]]
    assert [t for t in codec.encode_question(text) if t in specials] == harmless


@pytest.mark.parametrize("kind", ["byte level", "byte-level BPE"])
@given(texts)
def test_a_users_text_is_read_back_as_it_was_written(kind, text):
    _, codec = made(kind)
    assert codec.decode(codec.encode_text(text)) == text


ordinary = st.lists(
    st.sampled_from(["What", " is ", "6 * 7", "?", "the quick", " fox", "\n", "日本", "🙂", "é"]),
    min_size=1,
    max_size=8,
).map(lambda words: "".join(words).strip() or "x")


@kinds
@given(ordinary)
def test_an_ordinary_text_gets_the_tokenizers_own_ids(kind, text):
    tokenizer, codec = made(kind)
    assert codec.encode_text(text) == tokenizer.encode(text, add_special_tokens=False).ids


INSTRUCTIONS = "{% for m in messages %}[INST] {{ m['content'] }} [/INST]{% endfor %}"


@kinds
@pytest.mark.parametrize("template", [CHAT_TEMPLATE, INSTRUCTIONS], ids=["ChatML", "[INST]"])
@given(ordinary, ordinary)
def test_an_ordinary_chat_gets_the_ids_that_transformers_gives_it(kind, template, system, text):
    tokenizer, codec = made(kind, template)
    theirs = fast_tokenizer(tokenizer, chat_template=template)
    for messages in (
        [{"role": "user", "content": text}],
        [{"role": "system", "content": system}, {"role": "user", "content": text}],
    ):
        expected = theirs.apply_chat_template(messages, add_generation_prompt=True)
        assert codec.encode_chat(messages) == expected["input_ids"]
    assert codec.encode_question(text) == codec.encode_chat([{"role": "user", "content": text}])


@kinds
def test_added_tokens_that_are_not_special_keep_their_ids_in_users_text(kind):
    tokenizer, codec = made(kind)
    assert codec.encode_text("<late>")[-1] == tokenizer.token_to_id("<late>")
    if kind == "byte level":
        assert codec.encode_text(TOOL) == [tokenizer.token_to_id(TOOL)]


def test_control_tokens_that_a_checkpoint_does_not_flag_as_special_are_safe_too():
    tokenizer = byte_tokenizer(EOS)
    tokenizer.add_tokens([AddedToken(n, special=False) for n in control_token_names(8)])
    codec = PromptCodec(tokenizer.to_str(), None, {})
    assert not codec.control.ids & set(codec.encode_text("a<think1>b</think8><summary>"))
    ids = [codec.control.opens[0], 5, codec.control.closes[0]]
    assert codec.decode(ids) == tokenizer.decode([5])


def test_a_beginning_of_sequence_token_is_kept_where_the_tokenizer_puts_one():
    tokenizer = byte_level()
    add_control_tokens(tokenizer)
    end = tokenizer.token_to_id(EOS)
    tokenizer.post_processor = TemplateProcessing(single=f"{EOS} $A", special_tokens=[(EOS, end)])
    codec = PromptCodec(tokenizer.to_str(), None, {})
    assert (
        codec.encode_question("hi") == tokenizer.encode("hi").ids == [end, *codec.encode_text("hi")]
    )


def test_a_tokenizer_saved_with_truncation_and_padding_does_neither():
    tokenizer = byte_level()
    add_control_tokens(tokenizer)
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=16)
    codec = PromptCodec(tokenizer.to_str(), None, {})
    assert [len(codec.encode_text("x" * n)) for n in (1, 100)] == [1, 100]


def test_special_tokens_of_the_template_come_from_the_checkpoints_configuration(tmp_path):
    tokenizer = byte_level()
    add_control_tokens(tokenizer)
    template = "{{ bos_token }}{{ messages[0]['content'] }}{{ eos_token }}"
    fast_tokenizer(
        tokenizer, chat_template=template, bos_token=EOS, eos_token=CHATML[1]
    ).save_pretrained(tmp_path)
    codec = PromptCodec.from_folder(tmp_path)
    ids = codec.encode_question("hi" + EOS)
    assert ids[0] == tokenizer.token_to_id(EOS)
    assert ids[-1] == tokenizer.token_to_id(CHATML[1])
    assert ids[1:-1] == codec.encode_text("hi" + EOS)


def test_a_role_cannot_carry_special_tokens():
    _, codec = made("byte level", CHAT_TEMPLATE)
    with pytest.raises(UsageError, match="role should be a plain word"):
        codec.encode_chat([{"role": "user<|im_end|>", "content": "x"}])


def test_messages_that_a_template_refuses_are_the_callers_error():
    _, codec = made("byte level", "{{ raise_exception('roles must alternate') }}")
    with pytest.raises(UsageError, match="chat template refuses these messages: roles must alt"):
        codec.encode_question("x")


@pytest.mark.parametrize("template", ["{% for %}", "{{ messages.x.y }}", "{{ messages[0] + 1 }}"])
def test_a_template_that_fails_is_the_models_error(template):
    _, codec = made("byte level", template)
    with pytest.raises(CheckpointError, match="chat template fails"):
        codec.encode_question("x")


def test_a_model_without_a_template_takes_no_chat():
    _, codec = made("byte level")
    with pytest.raises(CheckpointError, match="no chat template"):
        codec.encode_chat([{"role": "user", "content": "x"}])


def test_a_text_that_is_no_unicode_is_refused():
    _, codec = made("byte level", CHAT_TEMPLATE)
    for encode in (codec.encode_text, codec.encode_question):
        with pytest.raises(UsageError, match="not valid Unicode"):
            encode("a\ud800b")


@pytest.mark.parametrize("kind", ["byte level", "byte-level BPE", "metaspace BPE"])
@given(texts)
def test_streamed_text_joins_to_the_text_and_never_breaks_a_character(kind, text):
    _, codec = made(kind)
    ids = codec.encode_text(text)
    stream = codec.stream()
    parts = [stream.push(token, k == len(ids) - 1) for k, token in enumerate(ids)]
    assert "".join(parts) == codec.decode(ids)
    assert not any("\ufffd" in part for part in parts)


@pytest.mark.parametrize("kind", ["byte level", "byte-level BPE"])
@given(st.lists(st.integers(0, 320), max_size=40))
def test_a_stream_of_any_tokens_joins_to_what_decode_says(kind, ids):
    _, codec = made(kind)
    stream = codec.stream()
    ids = [t for t in ids if t not in codec.control.ids]
    parts = [stream.push(token, k == len(ids) - 1) for k, token in enumerate(ids)]
    assert "".join(parts) == codec.decode(ids)


def test_text_comes_as_soon_as_it_is_certain():
    _, codec = made("byte level")
    stream = codec.stream()
    parts = [stream.push(t) for t in codec.encode_text("aé🙂b")]
    assert parts == ["a", "", "é", "", "", "", "🙂", "b"]


def test_half_a_character_at_the_end_is_given_out_with_the_last_token():
    _, codec = made("byte level")
    first, second = codec.encode_text("é")
    stream = codec.stream()
    assert stream.push(first, last=True) == codec.decode([first]) == "\ufffd"
    stream = codec.stream()
    close = codec.control.closes[0]
    assert [stream.push(first), stream.push(second), stream.push(close, last=True)] == ["", "é", ""]


def test_control_tokens_and_ids_that_no_token_has_show_as_nothing():
    _, codec = made("byte level")
    ids = [codec.control.opens[0], *codec.encode_text("ab"), 10**6, codec.control.closes[0]]
    assert codec.decode(ids) == "ab"
    stream = codec.stream()
    assert "".join(stream.push(t) for t in ids) == "ab"


def test_a_folder_without_a_fast_tokenizer_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"no tokenizer\.json"):
        PromptCodec.from_folder(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": "1.0"}', "\x00"])
def test_a_damaged_tokenizer_is_refused_by_name(tmp_path, content):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json cannot be read"):
        PromptCodec.from_folder(tmp_path)


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_a_damaged_tokenizer_configuration_is_refused_by_name(tmp_path, content):
    made("byte level")[0].save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"tokenizer_config\.json"):
        PromptCodec.from_folder(tmp_path)


def test_a_tokenizer_without_control_tokens_is_refused_by_its_folder(tmp_path):
    byte_level().save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(CheckpointError) as caught:
        PromptCodec.from_folder(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "parathinker models prepare" in str(caught.value)
