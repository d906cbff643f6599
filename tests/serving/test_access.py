"""Who gets in: keys, hosts, origins; and what every response carries."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from parathinker import UsageError
from parathinker.serving import logs
from parathinker.serving.host import Host
from parathinker.serving.page import add_page
from parathinker.serving.settings import load_settings, read_keys
from serving_client import KEY, QUESTION, Client, client


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_any_of_several_keys_opens_and_nothing_else_does() -> None:
    asked = client(api_keys=["first-key", KEY])
    for path in ("/v1/models", "/metrics"):
        for wrong in ({}, bearer("wrong"), bearer(KEY[:-1]), {"Authorization": KEY}, bearer("ß")):
            headers = {k: v.encode("utf-8") for k, v in wrong.items()}
            response = asked.get(path, headers=headers)
            assert response.status_code == 401
            assert response.json()["error"]["code"] == "invalid_api_key"
        assert asked.get(path, headers=bearer(KEY)).status_code == 200
        assert asked.get(path, headers=bearer("first-key")).status_code == 200
    for path in ("/", "/health", "/health/live", "/health/ready", "/openapi.json"):
        assert asked.get(path).status_code == 200


def test_keys_come_from_a_file_and_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "keys.txt"
    file.write_text("# for the team\nfile-key\n\nother-key\n")
    monkeypatch.setenv("PARATHINKER_SERVE_API_KEYS", "key-1, key-2")
    settings = load_settings({"api_key_file": file})
    assert set(read_keys(settings)) == {"key-1", "key-2", "file-key", "other-key"}
    assert "key-1" not in repr(settings)


@pytest.mark.parametrize("content", ["", "# nothing\n", "ümlaut\n", "two words\n"])
def test_a_file_without_usable_keys_is_an_error(tmp_path: Path, content: str) -> None:
    file = tmp_path / "keys.txt"
    file.write_text(content)
    with pytest.raises(UsageError, match="key"):
        read_keys(load_settings({"api_key_file": file}))
    with pytest.raises(UsageError, match="cannot be read"):
        read_keys(load_settings({"api_key_file": tmp_path / "none"}))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.com"])
def test_other_machines_are_let_in_with_a_key_only(host: str) -> None:
    with pytest.raises(UsageError, match="no API key"):
        load_settings({"host": host})
    load_settings({"host": host, "api_keys": [KEY]})
    load_settings({"host": host, "allow_unprotected": True})


def test_without_keys_a_request_has_to_mean_this_machine() -> None:
    for name, status in (("evil.example", 403), ("localhost:8000", 200), ("[::1]:1", 200)):
        assert client().get("/v1/models", headers={"Host": name}).status_code == status
    named = client(allowed_hosts=["box.lan"])
    assert named.get("/v1/models", headers={"Host": "box.lan:80"}).status_code == 200
    with_key = client(api_keys=[KEY])
    headers = {"Host": "any.example", **bearer(KEY)}
    assert with_key.get("/v1/models", headers=headers).status_code == 200


def test_other_origins_are_let_in_only_by_name() -> None:
    asking = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    closed = client().request("OPTIONS", "/v1/chat/completions", headers=asking)
    assert "access-control-allow-origin" not in closed.headers
    opened = client(cors_origins=["https://app.example"], api_keys=[KEY])
    preflight = opened.request("OPTIONS", "/v1/chat/completions", headers=asking)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == "https://app.example"
    refused = opened.get("/v1/models", headers={"Origin": "https://app.example"})
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == "https://app.example"


def test_a_browser_may_send_the_headers_of_openais_client() -> None:
    asking = {
        "Origin": "https://app.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,x-stainless-os",
    }
    opened = client(cors_origins=["https://app.example"])
    preflight = opened.request("OPTIONS", "/v1/chat/completions", headers=asking)
    assert preflight.status_code == 200
    assert "x-stainless-os" in preflight.headers["access-control-allow-headers"]
    foreign = {**asking, "Origin": "https://other.example"}
    refused = opened.request("OPTIONS", "/v1/chat/completions", headers=foreign)
    assert "access-control-allow-origin" not in refused.headers


def test_a_request_keeps_its_id_if_it_is_one() -> None:
    asked = client()
    for good in ("abc-1", "x" * 128):
        given = asked.get("/health", headers={"X-Request-Id": good}).headers["x-request-id"]
        assert given == good
    for bad in ("a b", "x" * 200, '"'):
        given = asked.get("/health", headers={"X-Request-Id": bad}).headers["x-request-id"]
        assert given != bad
        assert len(given) == 32


def test_every_response_forbids_foreign_content() -> None:
    for path in ("/", "/v1/models", "/nowhere"):
        headers = client().get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'; ")
        assert headers["x-content-type-options"] == "nosniff"


def test_the_page_is_served_and_cached_by_name(tmp_path: Path) -> None:
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<!doctype html><title>page</title>")
    (tmp_path / "assets" / "index-1a2b.js").write_text("1")
    asked = Client(Host(load_settings({})))
    asked.app.router.routes[:] = []
    add_page(asked.app, tmp_path)
    page, script = asked.get("/"), asked.get("/assets/index-1a2b.js")
    assert page.headers["cache-control"] == "no-cache"
    assert page.headers["content-type"].startswith("text/html")
    assert "immutable" in script.headers["cache-control"]
    assert asked.get("/assets/../index.html").status_code == 404
    assert asked.get("/assets/none.js").status_code == 404


def test_without_a_page_there_is_a_hint(tmp_path: Path) -> None:
    asked = Client(Host(load_settings({})))
    asked.app.router.routes[:] = []
    add_page(asked.app, tmp_path)
    response = asked.get("/")
    assert response.headers["content-type"].startswith("text/plain")
    assert "/v1" in response.text


def test_before_the_model_is_there_the_server_says_so() -> None:
    asked = Client(Host(load_settings({})))
    assert asked.get("/health/live").status_code == 200
    for path in ("/health", "/health/ready"):
        response = asked.get(path)
        assert (response.status_code, response.json()["status"]) == (503, "loading")
    response = asked.chat()
    assert response.status_code == 503
    assert response.headers["retry-after"]


def line_of(asked: Client, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    asked.chat(seed=1, thinking={"paths": 2})
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    (line,) = [line for line in lines if line["message"] == "request"]
    found: dict[str, Any] = line
    return found


@pytest.fixture
def quiet_again() -> Any:
    """Logging as it was before."""
    root, own = logging.getLogger(), logging.getLogger("parathinker")
    before = root.handlers[:], root.level, own.level
    yield
    root.handlers[:], root.level, own.level = before


@pytest.mark.usefixtures("quiet_again")
def test_a_request_is_one_line_without_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("info", False)
    line = line_of(client(), capsys)
    assert line["route"] == "/v1/chat/completions"
    assert line["status"] == 200
    assert line["path_tokens"] > 100
    assert line["first_token_s"] <= line["seconds"]
    assert "48213" not in json.dumps(line)
    line = line_of(client(log_text=True), capsys)
    assert line["questions"] == [QUESTION]
    assert line["texts"][0].startswith("Answer")


def test_metrics_count_what_happened() -> None:
    asked = client()
    usage = asked.chat(thinking={"paths": 3, "termination": "last-finish"}).json()["usage"]
    asked.chat(tools=[1])
    text = asked.get("/metrics").text
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    route = 'route="/v1/chat/completions"'
    assert values[f'parathinker_requests_total{{{route},status="200"}}'] == "1.0"
    assert values[f'parathinker_requests_total{{{route},status="400"}}'] == "1.0"
    tokens = usage["completion_tokens_details"]["reasoning_tokens"]
    assert float(values['parathinker_tokens_total{kind="path"}']) == tokens
    assert float(values['parathinker_tokens_total{kind="prompt"}']) == usage["prompt_tokens"]
    assert values["parathinker_paths_started_total"] == "3.0"
    assert float(values['parathinker_paths_ended_total{reason="stop"}']) == 3
    assert values["parathinker_time_to_first_token_seconds_count"] == "1.0"
    assert float(values["parathinker_inter_token_seconds_count"]) > 100
    assert values["parathinker_answers_running"] == "0.0"
    assert values['parathinker_kv_bytes{use="in_use"}'] == "0.0"
    assert float(values['parathinker_kv_bytes{use="capacity"}']) > 0
    assert values["parathinker_ready"] == "1.0"
