"""``parathinker serve``: what its options are, and what they refuse before a model is loaded."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

import pytest

from parathinker.cli.serve import PLURALS, serve
from parathinker.serving.settings import ServeSettings

Run = Callable[..., tuple[int, str, str]]


def test_every_setting_but_keys_themselves_is_an_option() -> None:
    options = set(inspect.signature(serve).parameters) - {"context"}
    settings = {PLURALS.get(option, option) for option in options}
    assert settings == set(ServeSettings.model_fields) - {"api_keys"}


def test_the_help_has_an_example(run: Run) -> None:
    code, output, _ = run("serve", "--help")
    assert code == 0
    assert "parathinker serve --model tiny" in output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--host", "0.0.0.0"], "no API key"),
        (["--paths", "many"], "paths"),
        (["--port", "99999"], "port"),
        (["--show", "all"], "show"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
        (["--api-key-file", "nowhere.txt"], "nowhere.txt"),
    ],
)
def test_a_wrong_option_is_a_usage_error(run: Run, options: list[str], said: str) -> None:
    code, _, errors = run("serve", *options)
    assert code == 2
    assert said in errors


def test_a_wrong_key_is_not_repeated(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARATHINKER_SERVE_API_KEYS", "sécret")
    code, _, errors = run("serve")
    assert code == 2
    assert "sécret" not in errors


def test_a_yaml_file_is_checked_like_the_options(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text("prot: 80\n")
    code, _, errors = run("serve", "--config", file)
    assert code == 2
    assert "prot" in errors
