"""What a server can be told: by flags, by PARATHINKER_SERVE_… in the environment, by a YAML file.

A flag wins over the environment, the environment over the file. API keys come from a file or from
the environment, never from the command line, where every user of the machine could read them.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

from parathinker.backends.arguments import read_arguments
from parathinker.errors import UsageError

PREFIX = "PARATHINKER_SERVE_"

Termination = Literal["first-finish", "half-finish", "last-finish"]
Show = Literal["none", "summary", "paths"]
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Texts = Annotated[list[str], NoDecode]


class ServeSettings(BaseSettings):
    """All settings of a server; ``None`` leaves a choice to the model."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="forbid", frozen=True, protected_namespaces=()
    )

    config: Path | None = Field(None, description="A YAML file with any of these settings.")

    model: str = Field("tiny", description="An embedded model's name, a folder, or a hub id.")
    model_name: str | None = Field(None, description="The name that clients ask for.")
    device: str = Field("auto", description="auto, cpu, cuda or mps.")
    dtype: str = Field("auto", description="auto, float32 or bfloat16.")
    weights: str = Field("auto", description="auto, float32 or int8.")
    kv_cache_memory: str | None = Field(None, description="Such as 2GiB, or 0.25 of all there is.")
    threads: Count | None = Field(
        None, description="CPU threads; by default OMP_NUM_THREADS, or one for each core."
    )

    backend: Literal["native", "vllm"] = Field("native", description="The engine.")
    engine_args: Annotated[dict[str, Any], NoDecode] = Field(
        {}, description="vLLM's own arguments; NAME=VALUE with commas in the environment."
    )

    host: str = Field("127.0.0.1", description="Address to listen at.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen at; 0 takes a free one.")
    allow_unprotected: bool = Field(
        False, description="Listen beyond this machine even without an API key."
    )
    api_keys: Annotated[list[SecretStr], NoDecode] = Field(
        [], description="Keys that clients may use; with commas in the environment."
    )
    api_key_file: Path | None = Field(None, description="A file with an API key a line.")
    cors_origins: Texts = Field([], description="Web pages' origins that browsers may ask from.")
    allowed_hosts: Texts = Field(
        [], description="Host names that requests may name, where no key is asked for."
    )

    paths: Count | Literal["auto"] | None = Field(None, description="Paths of a request.")
    termination: Termination | None = Field(None, description="When thinking ends.")
    rounds: Count = Field(1, description="How often to think.")
    show: Show = Field("paths", description="How much of its thinking a client is shown.")
    max_path_tokens: Count | None = Field(None, description="Tokens a path may have.")
    max_summary_tokens: Count | None = Field(None, description="Tokens an answer may have.")
    temperature: float | None = Field(None, ge=0, le=2, description="Sampling temperature.")

    limit_body_bytes: Count = Field(1 << 20, description="Bytes of a request's body.")
    limit_prompt_tokens: Count | None = Field(None, description="Tokens of a prompt.")
    limit_paths: Count | None = Field(None, description="Paths of a request.")
    limit_path_tokens: Count | None = Field(None, description="Tokens of a path.")
    limit_answer_tokens: Count | None = Field(None, description="Tokens of an answer.")
    limit_rounds: Count = Field(4, description="Rounds of a request.")
    limit_choices: Count = Field(8, description="Answers to one request: its n, times its prompts.")
    limit_running: Count = Field(64, description="Answers in the making at a time.")
    limit_queued: int = Field(256, ge=0, description="Requests that wait for their turn.")

    request_timeout_s: Seconds = Field(600.0, description="From a request's body to its answer.")
    body_timeout_s: Seconds = Field(30.0, description="For a request's body to arrive.")
    send_timeout_s: Seconds = Field(60.0, description="For a client to take what it is sent.")
    shutdown_grace_s: float = Field(
        20.0, ge=0, allow_inf_nan=False, description="For running requests to end at shutdown."
    )
    stream_interval_ms: float = Field(
        20.0, ge=0, le=1000, description="Least time between two chunks of a stream."
    )

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_text: bool = Field(False, description="Write questions and answers into the log.")

    @field_validator("api_keys", "cors_origins", "allowed_hosts", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return [part.strip() for part in value.split(",") if part.strip()]
        return value

    @field_validator("engine_args", mode="before")
    @classmethod
    def _read_arguments(cls, value: Any) -> Any:
        return read_arguments(value)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, environment, file; the file may be named by either of the others."""
        file = init_settings().get("config") or env_settings().get("config")
        if file is None:
            return init_settings, env_settings
        return init_settings, env_settings, YamlConfigSettingsSource(settings_cls, Path(file))

    @property
    def served_name(self) -> str:
        """The name that clients ask for: the model's own, or its folder's."""
        return self.model_name or Path(self.model).name or self.model


def load_settings(given: Mapping[str, Any]) -> ServeSettings:
    """Settings from flags, environment and file, checked.

    Raises:
        UsageError: one of them is unknown or wrong, the file cannot be read, or the server would
            be open to everyone.
    """
    for variable in os.environ:
        name = variable.upper().removeprefix(PREFIX).lower()
        if variable.upper().startswith(PREFIX) and name not in ServeSettings.model_fields:
            raise UsageError(f"{variable} in the environment is no setting of the server")
    file = given.get("config") or os.environ.get(f"{PREFIX}CONFIG")
    if file is not None and not Path(file).is_file():
        raise UsageError(f"config should be a YAML file; there is none at {str(file)!r}")
    try:
        settings = ServeSettings(**given)
    except ValidationError as error:
        # Not its input: that may be a key.
        found = error.errors(include_input=False, include_url=False)[0]
        name = str(found["loc"][0]) if found["loc"] else str(file)
        wrong = found["msg"] if found["type"] != "extra_forbidden" else "there is no such setting"
        raise UsageError(f"{name}: {wrong}") from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, TypeError) as error:
        raise UsageError(f"the settings cannot be read: {error}") from None
    if not (is_loopback(settings.host) or settings.allow_unprotected or read_keys(settings)):
        raise UsageError(
            f"host {settings.host} can be reached from other machines, and no API key is set; "
            f"name a file of keys with --api-key-file, set {PREFIX}API_KEYS, or insist with "
            "--allow-unprotected"
        )
    return settings


def read_keys(settings: ServeSettings) -> tuple[str, ...]:
    """All API keys; none means that none is asked for.

    Raises:
        UsageError: the file cannot be read or holds no key, or a key cannot be sent in a header.
    """
    keys = [key.get_secret_value() for key in settings.api_keys]
    file = settings.api_key_file
    if file is not None:
        try:
            lines = [line.strip() for line in file.read_text("utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"api_key_file {file} cannot be read: {error}") from None
        found = [line for line in lines if line and not line.startswith("#")]
        if not found:
            raise UsageError(f"api_key_file {file} holds no key; write one a line")
        keys += found
    if not all(key.isascii() and key.isprintable() and " " not in key and key for key in keys):
        raise UsageError("API keys should be printable ASCII characters without spaces")
    return tuple(keys)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
