"""``parathinker serve``: an OpenAI-compatible endpoint, and a page where one sees it think."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from parathinker.errors import MissingExtraError
from parathinker.params import AUTO, TERMINATIONS

_MODEL, _ACCESS, _DEFAULTS = "Model and engine", "Access", "What a request gets by default"
_LIMITS, _TIMES, _LOG = "Limits", "Times", "Log"


def _option(panel: str | None, text: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, show_default=False, **more)


_Count = int | None
_Seconds = float | None


def serve(
    context: typer.Context,
    config: Annotated[
        Path | None, _option(None, "YAML file with any of these settings.", metavar="FILE")
    ] = None,
    host: Annotated[str | None, _option(None, "Address to listen at. [127.0.0.1]")] = None,
    port: Annotated[_Count, _option(None, "Port; 0 takes a free one. [8000]")] = None,
    model: Annotated[
        str | None, _option(_MODEL, "An embedded model's name, a folder, or a hub id. [tiny]")
    ] = None,
    model_name: Annotated[str | None, _option(_MODEL, "Name that clients ask for.")] = None,
    device: Annotated[str | None, _option(_MODEL, "auto, cpu, cuda or mps.")] = None,
    dtype: Annotated[str | None, _option(_MODEL, "auto, float32 or bfloat16.")] = None,
    weights: Annotated[str | None, _option(_MODEL, "auto, float32 or int8.")] = None,
    kv_cache_memory: Annotated[
        str | None, _option(_MODEL, "Such as 2GiB, or 0.25 of all there is.")
    ] = None,
    threads: Annotated[_Count, _option(_MODEL, "CPU threads.")] = None,
    backend: Annotated[str | None, _option(_MODEL, "Engine: native or vllm. [native]")] = None,
    engine_arg: Annotated[
        list[str] | None,
        _option(_MODEL, "vLLM's own argument, as tensor_parallel_size=2; may be repeated."),
    ] = None,
    api_key_file: Annotated[
        Path | None,
        _option(_ACCESS, "File with an API key a line; or set PARATHINKER_SERVE_API_KEYS."),
    ] = None,
    allow_unprotected: Annotated[
        bool | None,
        _option(_ACCESS, "Listen beyond this machine without a key.", "--allow-unprotected"),
    ] = None,
    cors_origin: Annotated[
        list[str] | None, _option(_ACCESS, "Origin that browsers may ask from; may be repeated.")
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        _option(_ACCESS, "Host name that requests may use beside this machine's own."),
    ] = None,
    paths: Annotated[str | None, _option(_DEFAULTS, f"Paths, or {AUTO}. [8]")] = None,
    termination: Annotated[str | None, _option(_DEFAULTS, f"{', '.join(TERMINATIONS)}.")] = None,
    rounds: Annotated[_Count, _option(_DEFAULTS, "How often to think. [1]")] = None,
    show: Annotated[
        str | None, _option(_DEFAULTS, "Thinking that clients get: none, summary, paths. [paths]")
    ] = None,
    max_path_tokens: Annotated[_Count, _option(_DEFAULTS, "Tokens of a path.")] = None,
    max_summary_tokens: Annotated[_Count, _option(_DEFAULTS, "Tokens of an answer.")] = None,
    temperature: Annotated[float | None, _option(_DEFAULTS, "Sampling temperature.")] = None,
    limit_body_bytes: Annotated[_Count, _option(_LIMITS, "Bytes of a body. [1048576]")] = None,
    limit_prompt_tokens: Annotated[_Count, _option(_LIMITS, "Tokens of a prompt.")] = None,
    limit_paths: Annotated[_Count, _option(_LIMITS, "Paths of a request.")] = None,
    limit_path_tokens: Annotated[_Count, _option(_LIMITS, "Tokens of a path.")] = None,
    limit_answer_tokens: Annotated[_Count, _option(_LIMITS, "Tokens of an answer.")] = None,
    limit_rounds: Annotated[_Count, _option(_LIMITS, "Rounds of a request. [4]")] = None,
    limit_choices: Annotated[_Count, _option(_LIMITS, "Answers to one request. [8]")] = None,
    limit_running: Annotated[
        _Count, _option(_LIMITS, "Answers in the making at a time. [64]")
    ] = None,
    limit_queued: Annotated[_Count, _option(_LIMITS, "Requests that wait. [256]")] = None,
    request_timeout_s: Annotated[_Seconds, _option(_TIMES, "For an answer. [600]")] = None,
    body_timeout_s: Annotated[_Seconds, _option(_TIMES, "For a body to arrive. [30]")] = None,
    send_timeout_s: Annotated[
        _Seconds, _option(_TIMES, "For a client to take what it is sent. [60]")
    ] = None,
    shutdown_grace_s: Annotated[
        _Seconds, _option(_TIMES, "For running requests at shutdown. [20]")
    ] = None,
    stream_interval_ms: Annotated[
        _Seconds, _option(_TIMES, "Least time between two chunks of a stream. [20]")
    ] = None,
    log_level: Annotated[str | None, _option(_LOG, "debug, info, warning or error. [info]")] = None,
    log_text: Annotated[
        bool | None, _option(_LOG, "Write questions and answers into the log.", "--log-text")
    ] = None,
) -> None:
    """Serve a model by OpenAI's protocol, with a page that shows its paths side by side.

    Every option can also be set in the environment, as PARATHINKER_SERVE_PORT=8000, or in a YAML
    file, as port: 8000. Ctrl-C gives running requests some time to end.

    \b
    Examples:
      parathinker serve --model tiny --port 8000
      parathinker serve --host 0.0.0.0 --api-key-file keys.txt --limit-running 32
    """
    given = {
        PLURALS.get(name, name): value
        for name, value in context.params.items()
        if value is not None and value != ()
    }
    if isinstance(given.get("paths"), str) and given["paths"].isdecimal():
        given["paths"] = int(given["paths"])
    # All that is made until the model is there stays. Looking through it for garbage, again and
    # again, takes a tenth of the start; the server looks again from when it is ready.
    gc.disable()
    try:
        _serve(given)
    finally:
        gc.enable()


def _serve(given: dict[str, Any]) -> None:
    try:
        from parathinker.serving.server import serve as run
        from parathinker.serving.settings import load_settings
    except ImportError as error:
        if isinstance(error, MissingExtraError) or str(error.name).startswith("parathinker"):
            raise
        raise MissingExtraError("the server", "serve") from error
    settings = load_settings(given)

    def listening(url: str) -> None:
        if sys.stdout.isatty():
            typer.echo(f"{settings.served_name} thinks at {url}. Ctrl-C stops it.")

    run(settings, listening)


PLURALS = {
    "cors_origin": "cors_origins",
    "allowed_host": "allowed_hosts",
    "engine_arg": "engine_args",
}
"""Options that may be repeated, and the settings that hold all of them."""
