"""``parathinker ask`` where its output is no terminal: text, JSON, and bad input."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from terminal import TerminalRun

Run = Callable[..., tuple[int, str, str]]


def feed(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_plain_output_has_question_every_path_summary_and_cost(
    run: Run, letters_model: Path
) -> None:
    code, output, errors = run(
        "ask", "Well?", "--model", letters_model, "--paths", 3, "--seed", 1, "--top-k", 5
    )
    assert (code, errors) == (0, "")
    assert output.startswith("Well?\n")
    heads = [line for line in output.splitlines() if line.startswith("[")]
    assert [head.split(":")[0].rstrip("]") for head in heads] == [
        "[path 1",
        "[path 2",
        "[path 3",
        "[summary",
    ]
    assert "finished first ✓" in output
    last = output.splitlines()[-1]
    assert "tokens (" in last
    assert "tokens/s" in last


def test_plain_output_says_the_same_as_json(run: Run, letters_model: Path) -> None:
    same = ["--model", letters_model, "--seed", 3, "--top-k", 5]
    _, text, _ = run("ask", "Well?", *same)
    _, document, _ = run("ask", "Well?", "--json", *same)
    answer = json.loads(document)
    for path in answer["paths"]:
        assert path["text"].strip() in text
    assert answer["text"] in text


def test_control_characters_of_a_model_do_not_reach_the_terminal(
    run: Run, tiny_random_model: Path
) -> None:
    _, output, _ = run(
        "ask", "esc \x1b[31m", "--model", tiny_random_model, "--max-path-tokens", 200, "--seed", 5,
        "--temperature", 3, "--termination", "last-finish",
    )  # fmt: skip
    assert not [c for c in output if ord(c) < 32 and c not in "\n\t"]


def test_json_is_one_document_with_the_whole_answer(run: Run, letters_model: Path) -> None:
    code, output, errors = run("ask", "Well?", "--model", letters_model, "--json", "--seed", 7)
    answer = json.loads(output)
    assert (code, errors) == (0, "")
    assert len(answer["paths"]) == 8
    assert {"text", "token_ids", "logprobs", "finish_reason", "thought_id"} <= set(
        answer["paths"][0]
    )
    assert answer["params"]["seed"] == 7
    assert answer["correct"] is None


def test_same_seed_gives_the_same_answer(run: Run, letters_model: Path) -> None:
    def ask(seed: int) -> list[list[int]]:
        _, output, _ = run("ask", "Well?", "--model", letters_model, "--json", "--seed", seed)
        return [path["token_ids"] for path in json.loads(output)["paths"]]

    assert ask(1) == ask(1)
    assert ask(1) != ask(2)


@pytest.mark.parametrize("argument", [[], ["-"]])
def test_question_comes_from_standard_input(
    run: Run, letters_model: Path, monkeypatch: pytest.MonkeyPatch, argument: list[str]
) -> None:
    feed(monkeypatch, "How würde that be?\n".encode())
    code, output, _ = run("ask", *argument, "--model", letters_model, "--paths", 1)
    assert code == 0
    assert output.startswith("How würde that be?\n\n")


def test_answer_is_checked_by_the_models_task(run: Run, letters_model: Path) -> None:
    code, output, _ = run("ask", "What is 12 * 12?", "--model", letters_model, "--top-k", 5)
    assert code == 0
    assert output.rstrip().endswith("✗ wrong, expected 144")


def test_answer_is_checked_against_the_one_given(run: Run, endless_model: Path) -> None:
    arguments = ["ask", "x", "--model", endless_model, "--seed", 2, "--top-k", 5]
    arguments += ["--max-path-tokens", 10, "--max-summary-tokens", 10, "--json"]
    _, output, _ = run(*arguments)
    said = json.loads(output)["text"]
    assert json.loads(run(*arguments, "--answer", said)[1])["correct"] is True
    assert json.loads(run(*arguments, "--answer", "otherwise")[1])["correct"] is False


def test_example_problem_is_asked_and_checked(run: Run, letters_model: Path) -> None:
    code, output, _ = run("ask", "--example-number", 2, "--model", letters_model, "--top-k", 5)
    assert code == 0
    assert output.startswith("What is 7 * 8?\n")
    assert output.rstrip().endswith("✗ wrong, expected 56")
    _, output, _ = run("ask", "--example", "--model", letters_model, "--json")
    assert json.loads(output)["correct"] is False


def test_stop_text_ends_paths(run: Run, endless_model: Path) -> None:
    _, output, _ = run(
        "ask", "x", "--model", endless_model, "--json", "--top-k", 5, "--seed", 1,
        "--stop", "a", "--stop", "e", "--max-path-tokens", 500, "--max-summary-tokens", 10,
    )  # fmt: skip
    finished = [p for p in json.loads(output)["paths"] if p["finish_reason"] == "stop"]
    assert finished
    assert all(p["text"][-1] in "ae" for p in finished)


def test_follow_up_is_answered_on_top_of_the_answer_before(run: Run, letters_model: Path) -> None:
    arguments = ["ask", "Well?", "--model", letters_model, "--seed", 4, "--top-k", 5]
    arguments += ["--then", "And then?", "--then", "Why?"]
    code, output, _ = run(*arguments, "--json")
    assert code == 0
    first, second, third = (json.loads(line) for line in output.splitlines())
    assert [first["question"], second["question"]] == ["Well?", "And then?"]
    assert first["usage"]["cached_tokens"] == 0
    said = len(first["prompt_token_ids"]) + len(first["summary"]["token_ids"]) - 1
    assert second["usage"]["cached_tokens"] == said
    assert third["usage"]["cached_tokens"] > said
    assert second["prompt_token_ids"][0] == first["summary"]["token_ids"][-1]

    _, text, _ = run(*arguments)
    assert text.index("Well?\n\n[path 1") < text.index("\n\nAnd then?\n\n[path 1")
    assert text.count("[summary") == 3
    assert f"; {said} reused)" in text
    for turn in (first, second, third):
        assert turn["text"] in text


def test_rounds_are_told_apart(run: Run, letters_model: Path) -> None:
    arguments = ["ask", "Well?", "--model", letters_model, "--seed", 4, "--top-k", 5]
    arguments += ["--rounds", 2, "--paths", 2]
    document = json.loads(run(*arguments, "--json")[1])
    assert len(document["rounds"]) == 2
    _, text, _ = run(*arguments)
    heads = [line.split(":")[0].strip("[]") for line in text.splitlines() if line[:1] == "["]
    assert heads == [
        f"round {number}, {what}" for number in (1, 2) for what in ("path 1", "path 2", "summary")
    ]
    for one in document["rounds"]:
        assert one["summary"]["text"].strip() in text


def test_width_grows_by_itself_while_paths_disagree(run: Run, letters_model: Path) -> None:
    arguments = ["ask", "Well?", "--model", letters_model, "--seed", 4, "--top-k", 5]
    arguments += ["--paths", "auto", "--max-path-tokens", 8]
    answer = json.loads(run(*arguments, "--max-paths", 4, "--json")[1])
    assert len(answer["paths"]) == 4
    assert answer["params"]["max_paths"] == 4
    _, text, _ = run(*arguments, "--max-paths", 4)
    assert "[path 4: " in text
    assert "first" not in text


def test_every_thinking_option_reaches_the_model(run: Run, endless_model: Path) -> None:
    code, output, _ = run(
        "ask", "x", "--model", endless_model, "--json", "--paths", 2, "--max-path-tokens", 12,
        "--max-summary-tokens", 6, "--min-path-tokens", 4, "--min-summary-tokens", 2,
        "--continuation", "wait", "--path-prefix", "one", "--path-prefix", "two",
        "--summary-prefix", "so", "--repetition-penalty", 1.1, "--frequency-penalty", 0.1,
        "--presence-penalty", 0.2, "--stop-token-id", 3, "--budget", 20, "--threads", 1,
        "--kv-cache-memory", "4MiB", "--weights", "float32",
    )  # fmt: skip
    answer = json.loads(output)
    assert code == 0
    assert [path["text"][:3] for path in answer["paths"]] == ["one", "two"]
    assert answer["text"].startswith("so")
    params = answer["params"]
    assert (params["min_path_tokens"], params["min_summary_tokens"]) == (4, 2)
    assert params["continuation"] == "wait"
    penalties = [params[f"{name}_penalty"] for name in ("repetition", "frequency", "presence")]
    assert penalties == [1.1, 0.1, 0.2]
    assert params["stop_token_ids"] == [3]
    assert sum(len(path["token_ids"]) - 1 for path in answer["paths"]) <= 20


BAD_INPUT = {
    "an empty question": (["  "], 2, "the question is empty"),
    "no paths": (["x", "--paths", "0"], 2, "paths should be a whole number from 1"),
    "too many paths": (["x", "--paths", "9"], 2, "paths should be at most 8 for this model"),
    "paths that are no number": (
        ["x", "--paths", "many"],
        2,
        "paths should be a whole number from 1, or \"auto\"; got 'many'",
    ),
    "most paths of a fixed number": (["x", "--max-paths", "4"], 2, 'with paths="auto" only'),
    "no rounds": (["x", "--rounds", "0"], 2, "rounds should be a whole number from 1"),
    "rounds beyond the context": (["x", "--rounds", "3000"], 2, "its rounds are too long"),
    "a continuation that nothing calls for": (
        ["x", "--continuation", "Wait"],
        2,
        "continuation should be given with min_path_tokens",
    ),
    "prefixes for other paths": (
        ["x", "--paths", "3", "--path-prefix", "a", "--path-prefix", "b"],
        2,
        "path_prefix should be a text, or one for each of 3 paths",
    ),
    "a penalty of zero": (["x", "--repetition-penalty", "0"], 2, "repetition_penalty should be"),
    "an unknown stop token": (["x", "--stop-token-id", "99999"], 2, "stop_token_ids should be"),
    "an empty follow-up": (["x", "--then", " "], 2, "a follow-up question is empty"),
    "unknown weights": (["x", "--weights", "int3"], 2, "weights should be one of"),
    "KV memory that is no size": (["x", "--kv-cache-memory", "much"], 2, "kv_cache_memory should"),
    "KV memory that holds nothing": (["x", "--kv-cache-memory", "8"], 2, "is 8 bytes, and a block"),
    "KV memory that is too small": (
        ["x", "--kv-cache-memory", "64KiB", "--max-path-tokens", "500"],
        2,
        "and kv_cache_memory is 64 KiB",
    ),
    "no threads": (["x", "--threads", "0"], 2, "threads should be a whole number from 1"),
    "a budget below one token a path": (["x", "--budget", "7"], 2, "budget should be at least"),
    "token limits beyond the context": (["x", "--max-path-tokens", "9999"], 2, "do not fit"),
    "no tokens for a path": (["x", "--max-path-tokens", "0"], 2, "max_path_tokens should be"),
    "NaN temperature": (["x", "--temperature", "nan"], 2, "temperature should be 0 or more"),
    "negative temperature": (["x", "--temperature", "-1"], 2, "temperature should be 0 or more"),
    "top-p of zero": (["x", "--top-p", "0"], 2, "top_p should be above 0"),
    "negative seed": (["x", "--seed", "-1"], 2, "seed should be"),
    "unknown termination": (
        ["x", "--termination", "soon"],
        2,
        "termination should be one of first-finish, half-finish, last-finish; got 'soon'",
    ),
    "a question beyond the context": (["x" * 5000], 2, "the question is too long"),
    "an unknown device": (["x", "--device", "abacus"], 2, "device 'abacus'"),
    "an unknown dtype": (["x", "--dtype", "int3"], 2, "dtype should be one of"),
    "a question and an example": (["x", "--example"], 2, "not both"),
    "an example that is not there": (["--example-number", "3"], 2, "from 1 to 2"),
    "an unknown option": (["x", "--pathes", "3"], 2, "--pathes"),
}


@pytest.mark.parametrize("what", BAD_INPUT)
def test_bad_input_gets_a_clear_message(run: Run, letters_model: Path, what: str) -> None:
    arguments, expected_code, message = BAD_INPUT[what]
    code, output, errors = run("ask", *arguments, "--model", letters_model)
    assert (code, output) == (expected_code, "")
    assert message in " ".join(errors.split())
    assert "Traceback" not in errors


def test_empty_standard_input_is_an_empty_question(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed(monkeypatch, b" \n")
    assert run("ask") == (2, "", "Error: the question is empty\n")


def test_question_that_is_no_text_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    feed(monkeypatch, b"\xff\xfe what")
    code, _, errors = run("ask", "-")
    assert code == 2
    assert "not valid UTF-8" in errors


@pytest.mark.parametrize("name", ["no-such-model", "./nowhere", "no-owner/no-such-model"])
def test_unknown_model_is_a_failure_that_names_it(run: Run, name: str) -> None:
    code, output, errors = run("ask", "x", "--model", name)
    assert (code, output) == (1, "")
    assert repr(name) in errors
    assert "Traceback" not in errors


def test_folder_that_is_no_model_is_named(run: Run, tmp_path: Path) -> None:
    code, _, errors = run("ask", "x", "--model", tmp_path)
    assert code == 1
    assert errors == f"Error: {tmp_path} is no model folder: it has no config.json\n"


def test_model_without_examples_says_so(run: Run, tiny_random_model: Path) -> None:
    code, _, errors = run("ask", "--example", "--model", tiny_random_model)
    assert code == 1
    assert "no example problems" in errors


def test_damaged_example_is_named_by_file_and_line(
    run: Run, letters_model: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(letters_model, tmp_path / "model")
    (folder / "examples.jsonl").write_text('{"question": "x", "answer": "1"}\n{"question": "x"}\n')
    code, _, errors = run("ask", "--example", "--model", folder)
    assert code == 1
    assert "examples.jsonl:2" in errors


def test_no_question_on_a_terminal_says_what_to_do() -> None:
    terminal = TerminalRun(["ask"], 140, 24)
    assert terminal.finish() == 2
    assert "no question: give one" in terminal.screen.text
    assert "--example" in terminal.screen.text


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["ask", "--help"],
        ["ask", "x", "--temperature", "nan"],
        ["ask", "x", "--model", "no-such-model"],
        ["ask", ""],
        ["models"],
    ],
)
def test_what_needs_no_model_does_not_import_pytorch(arguments: list[str]) -> None:
    code = (
        "import sys; from parathinker.cli import main; main(sys.argv[1:]); "
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, timeout=60)
    assert done.returncode == 0
