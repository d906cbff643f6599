"""How vLLM is asked for: by Python, command line, settings file and environment; without vLLM."""

from __future__ import annotations

import pytest

from parathinker import ParaThinker, UsageError
from parathinker.backends.arguments import read_arguments
from parathinker.evaluation.settings import EvalSettings
from parathinker.serving.settings import load_settings


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (None, {}),
        (["tensor_parallel_size=2"], {"tensor_parallel_size": 2}),
        (
            ["enforce-eager=true", "quantization=fp8"],
            {"enforce_eager": True, "quantization": "fp8"},
        ),
        ("a=1, b=x", {"a": 1, "b": "x"}),
        ({"a": [1]}, {"a": [1]}),
        (['limits={"image": 0}'], {"limits": {"image": 0}}),
    ],
)
def test_arguments_are_read_from_wherever_they_come(given, read):
    assert read_arguments(given) == read


@pytest.mark.parametrize("given", [["a"], ["=1"], ["a=1", "a=2"], "a=1,b"])
def test_what_is_no_argument_is_refused(given):
    with pytest.raises(UsageError, match="engine argument"):
        read_arguments(given)


def test_a_server_takes_them_from_flags_and_from_the_environment(monkeypatch):
    flags = load_settings({"backend": "vllm", "engine_args": ["tensor_parallel_size=2"]})
    assert (flags.backend, flags.engine_args) == ("vllm", {"tensor_parallel_size": 2})
    monkeypatch.setenv("PARATHINKER_SERVE_BACKEND", "vllm")
    monkeypatch.setenv("PARATHINKER_SERVE_ENGINE_ARGS", "block_size=32,enforce_eager=true")
    assert load_settings({}).engine_args == {"block_size": 32, "enforce_eager": True}
    with pytest.raises(UsageError, match="backend"):
        load_settings({"backend": "other"})


def test_an_evaluation_takes_them_too():
    settings = EvalSettings.from_mapping({"backend": "vllm", "engine_args": {"block_size": 32}})
    assert settings.engine_args == {"block_size": 32}
    assert EvalSettings.from_mapping(settings.to_dict()) == settings
    with pytest.raises(UsageError, match="engine_args"):
        EvalSettings.from_mapping({"engine_args": "block_size=32"})


def test_backends_do_not_take_each_others_arguments():
    with pytest.raises(UsageError, match="tensor_parallel_size"):
        ParaThinker.from_pretrained("tiny", tensor_parallel_size=2)
    with pytest.raises(UsageError, match="weights"):
        ParaThinker.from_pretrained("tiny", backend="vllm", weights="int8")
    with pytest.raises(UsageError, match="backend should be one of native, vllm"):
        ParaThinker.from_pretrained("tiny", backend="tgi")
