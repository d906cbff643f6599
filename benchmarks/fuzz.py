"""Whether anything that the OpenAPI schema allows, or forbids, makes the server fail.

Run: python benchmarks/fuzz.py [--seconds 120]
It starts a server with the embedded model and lets schemathesis loose on it, twice: with the schema
as it is, and with one narrowed to requests that the model takes, which get past the first checks.
What is checked stands in schemathesis.toml. The exit code is 1 if anything failed, or if the server
is not well afterwards.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx
from served import served

SHORT = ("--limit-path-tokens", "16", "--limit-answer-tokens", "8", "--limit-paths", "4")
SHORT += ("--limit-rounds", "2", "--limit-choices", "3")
"""What keeps every answer short."""
QUESTION = "What is 48213 * 7689?"


def narrowed(schema: dict[str, Any]) -> dict[str, Any]:
    """The same schema, but for the model, messages, and endpoints that always answer alike."""
    copy = json.loads(json.dumps(schema))
    copy["paths"] = {path: copy["paths"][path] for path in copy["paths"] if "completions" in path}
    parts = copy["components"]["schemas"]
    for request in ("ChatRequest", "CompletionRequest"):
        parts[request]["properties"]["model"] = {"const": "tiny"}
    message = {
        "type": "object",
        "properties": {"role": {"const": "user"}, "content": {"type": "string", "minLength": 1}},
        "required": ["role", "content"],
        "additionalProperties": False,
    }
    parts["ChatRequest"]["properties"]["messages"] = {
        "type": "array",
        "items": message,
        "minItems": 1,
        "maxItems": 1,
    }
    return copy


def attack(url: str, schema: dict[str, Any], seconds: float) -> bool:
    """Let schemathesis loose; whether all was well."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "openapi.json"
        file.write_text(json.dumps(schema), "utf-8")
        command = [Path(sys.executable).with_name("schemathesis"), "run", file, "--url", url]
        try:
            return subprocess.run(command, timeout=seconds).returncode == 0
        except subprocess.TimeoutExpired:
            print(f"not done within {seconds:g} s", file=sys.stderr)
            return False


def well(url: str) -> bool:
    """Say how often what was asked, and whether the server answers and holds no memory."""
    body = {"model": "tiny", "messages": [{"role": "user", "content": QUESTION}]}
    answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)
    metrics = httpx.get(f"{url}/metrics").text
    for line in metrics.splitlines():
        if line.startswith("parathinker_requests_total{"):
            print(line.removeprefix("parathinker_requests_total"))
    return answer.status_code == 200 and 'parathinker_kv_bytes{use="in_use"} 0.0' in metrics


def main() -> int:
    """Run both, and say by the exit code whether all was well."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=180, help="for each of the two")
    options = parser.parse_args()
    with served("tiny", *SHORT) as server:
        schema = httpx.get(f"{server.url}/openapi.json").json()
        sound = [
            attack(server.url, schema, options.seconds),
            attack(server.url, narrowed(schema), options.seconds),
            well(server.url),
        ]
    print("all was well" if all(sound) else "something was not well")
    return 0 if all(sound) else 1


if __name__ == "__main__":
    sys.exit(main())
