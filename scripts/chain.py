"""The whole chain in one command: a teacher is asked, a dataset built, a model trained and asked.

Run: make chain, or python scripts/chain.py [--output runs/chain] [--fresh]

A real OpenAI-compatible server (vLLM with SmolLM2-135M-Instruct) is the teacher. Sampling,
building and training are each killed with SIGKILL on the way, run again with the same command, and
what they then do is checked. At the end `parathinker ask` asks the trained model, and a report says
what every step took, what the kills left, and how often which model is right. It shows that the
chain holds, not what the method is worth: a model this small, trained this little, learns little.

A rerun goes on where the chain was broken off.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from chain.accuracy import path_rows, stored_thoughts, text_row, trained_rows
from chain.evidence import (
    Interruption,
    asking,
    logged_losses,
    resumption,
    rows,
    stored_seeds,
    wanted_seeds,
)
from chain.ledger import Ledger, alone, start_over
from chain.processes import Parathinker
from chain.report import write_report
from chain.teacher import AT_A_TIME, MODEL, asked_seeds, teacher

from parathinker.data.schema import Question, read_questions
from parathinker.errors import ParaThinkerError
from parathinker.training.checkpoints import checkpoints
from smollm2 import plain_folder

ROOT = Path(__file__).resolve().parent.parent
SOURCE = "reasoning-gym:basic_arithmetic"
OPTIONS = {
    "min_terms": 2,
    "max_terms": 2,
    "min_digits": 1,
    "max_digits": 2,
    "operators": ["+"],
    "allow_parentheses": False,
    "allow_negation": False,
}
"""Sums of two numbers below 100: SmolLM2-135M-Instruct gets about a quarter of them right."""
HELD_OUT_SEED = 2
"""Other than the training questions', which is 1."""
PROMPT = "{question} Write out the calculation in a short sentence, then the result."
TEMPERATURE, MAX_TOKENS = 0.8, 48
KILL_AFTER = 0.4
"""Sampling and building are killed when so large a share of samples is there, or checked."""
STEPS_AFTER_CHECKPOINT = 3
"""Training is killed so many steps after a checkpoint, which are then lost."""
LOG_S = 2.0
"""What was sent just before a kill is in the teacher's log by then."""


@dataclass(frozen=True)
class Sizes:
    """How much of everything; a chain goes on with the same only."""

    questions: int
    held_out: int
    paths: int


def main() -> int:
    """Run what is left of the chain; the exit code."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        if options.fresh:
            start_over(options.output)
        sizes = Sizes(options.questions, options.held_out, options.paths)
        with alone(options.output):
            report = Chain(options.output, sizes, options.threads).run()
    except KeyboardInterrupt:
        print("Stopped; the same command goes on.", file=sys.stderr)
        return 130
    except ParaThinkerError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    print(f"Report: {report}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("runs/chain"), metavar="DIR")
    parser.add_argument("--questions", type=int, default=150, help="to train on, default: 150")
    parser.add_argument("--held-out", type=int, default=80, help="to measure with, default: 80")
    parser.add_argument("--paths", type=int, default=8, help="of a question, default: 8")
    parser.add_argument("--threads", type=int, help="to train with, default: all cores")
    parser.add_argument("--fresh", action="store_true", help="forget what was done before")
    return parser.parse_args()


class Chain:
    """All steps, and the files in between."""

    def __init__(self, output: Path, sizes: Sizes, threads: int | None) -> None:
        self._output, self._sizes = output, sizes
        self._threads = [] if threads is None else ["--threads", str(threads)]
        self._ledger = Ledger(output, vars(sizes))
        self._parathinker = Parathinker(output / "logs")
        self._server_log = output / "logs" / "teacher.log"
        self._questions, self._held_out = output / "questions.jsonl", output / "held-out.jsonl"
        self._samples, self._dataset = output / "samples.sqlite", output / "dataset"
        self._greedy = output / "before-greedy.sqlite"
        self._sampled = output / "before-sampled.sqlite"
        self._recipe, self._run = output / "recipe.yaml", output / "train"
        self._model = output / "model"

    def run(self) -> Path:
        """The report's place, when all is done."""
        self._prepare()
        with ExitStack() as serving:
            self._ask_the_teacher(serving)
        self._build()
        self._train()
        self._export()
        self._measure()
        self._ask()
        return write_report(self._output, self._ledger)

    def _prepare(self) -> None:
        with self._ledger.step("base model") as step:
            if step:
                folder = plain_folder()
                step.facts, step.says = {"folder": str(folder)}, str(folder)
        self._base = Path(self._ledger.facts("base model")["folder"])
        with self._ledger.step("data questions") as step:
            if step:
                options = [f"--option={name}={json.dumps(v)}" for name, v in OPTIONS.items()]
                for file, size, seed in (
                    (self._questions, self._sizes.questions, 1),
                    (self._held_out, self._sizes.held_out, HELD_OUT_SEED),
                ):
                    words = ["--size", str(size), "--seed", str(seed), "-o", file, "--force"]
                    self._parathinker("questions", "data", "questions", SOURCE, *options, *words)
                step.facts = {
                    "questions": len(_questions(self._questions)),
                    "held_out": len(_questions(self._held_out)),
                }
                step.says = "{questions} questions, {held_out} held out".format(**step.facts)

    def _ask_the_teacher(self, serving: ExitStack) -> None:
        """All that needs the server, which is started if any of it is left to do."""
        asked = ("data sample, killed", "data sample, again", "before training")
        if any(name not in self._ledger.done for name in asked):
            # Counted anew, because the server may have to be started more than once.
            self._ledger.done.pop("teacher starts", None)
        with self._ledger.step("teacher starts") as step:
            if step:
                self._url = serving.enter_context(teacher(self._base, self._server_log))
                step.facts, step.says = {"url": self._url}, f"vLLM serves {MODEL} at {self._url}"
        self._sample_killed()
        self._sample_again()
        self._measure_before()

    def _sample(self, name: str, questions: Path, store: Path, paths: int, **more: Any) -> Any:
        temperature = more.pop("temperature", TEMPERATURE)
        words = ["data", "sample", questions, "-o", store, "--endpoint", self._url]
        words += ["--model", MODEL, "--paths", str(paths), "--temperature", str(temperature)]
        words += ["--max-tokens", str(MAX_TOKENS), "--prompt", PROMPT]
        words += ["--concurrency", str(AT_A_TIME), "--json"]
        return self._parathinker(name, *words, **more)

    def _sample_killed(self) -> None:
        with self._ledger.step("data sample, killed") as step:
            if not step:
                return
            wanted = self._ledger.facts("data questions")["questions"] * self._sizes.paths
            self._sample(
                "sample",
                self._questions,
                self._samples,
                self._sizes.paths,
                kill_when=lambda: rows(self._samples, "samples") >= KILL_AFTER * wanted,
            )
            stored = rows(self._samples, "samples")
            step.facts = {"wanted": wanted, "stored": stored}
            step.says = f"SIGKILL with {stored:,} of {wanted:,} samples in the store"

    def _sample_again(self) -> None:
        with self._ledger.step("data sample, again") as step:
            if not step:
                return
            interruptions = self._note_interruption()
            wanted = wanted_seeds(_questions(self._questions), self._sizes.paths)
            ended = self._sample("sample", self._questions, self._samples, self._sizes.paths)
            tally = json.loads(ended.output)
            found = asking(wanted, asked_seeds(self._server_log), interruptions)
            step.facts = {**tally, **vars(found)}
            step.says = (
                f"{tally['before']:,} were there, {tally['arrived']:,} arrived; of "
                f"{found.in_flight_at_kill} in flight at the kill {found.twice} were asked for "
                "again, of the others none"
            )

    def _note_interruption(self) -> list[Interruption]:
        """How sampling stands now, before it goes on, and stood at earlier interruptions."""
        time.sleep(LOG_S)
        file = self._output / "interruptions.json"
        noted = json.loads(file.read_text("utf-8")) if file.is_file() else []
        noted.append((sorted(asked_seeds(self._server_log)), stored_seeds(self._samples)))
        file.write_text(json.dumps(noted), "utf-8")
        return [Interruption(frozenset(asked), frozenset(stored)) for asked, stored in noted]

    def _measure_before(self) -> None:
        with self._ledger.step("before training") as step:
            if not step:
                return
            paths, held_out = self._sizes.paths, _questions(self._held_out)
            self._sample("before", self._held_out, self._greedy, 1, temperature=0.0)
            self._sample("before", self._held_out, self._sampled, paths)
            greedy = [group[0] for group in stored_thoughts(held_out, self._greedy)]
            texts, tokens = [t.text for t in greedy], [float(t.tokens) for t in greedy]
            table = [text_row("base, one path, greedy", 1, held_out, texts, tokens)]
            table += path_rows("base", held_out, stored_thoughts(held_out, self._sampled))
            step.facts = {"rows": [one.to_dict() for one in table]}
            step.says = "; ".join(f"{one.method}: {one.accuracy:.0f} %" for one in table)

    def _build(self) -> None:
        words = ["data", "build", self._samples, "-o", self._dataset]
        words += ["--paths", str(self._sizes.paths), "--against", self._held_out]
        # Sums are alike by nature: only equal paths are dropped.
        words += ["--similar-paths", "1", "--workers", "1", "--json"]
        scores = self._samples.with_suffix(".scores.sqlite")
        with self._ledger.step("data build, killed") as step:
            if step:
                enough = KILL_AFTER * rows(self._samples, "samples")
                self._parathinker(
                    "build", *words, kill_when=lambda: rows(scores, "scores") >= enough
                )
                step.facts = {"checked": rows(scores, "scores"), "made": self._dataset.exists()}
                step.says = (
                    f"SIGKILL with {step.facts['checked']:,} answers checked; "
                    f"{'a' if step.facts['made'] else 'no'} dataset is there"
                )
        with self._ledger.step("data build, again") as step:
            if step:
                shutil.rmtree(self._dataset, ignore_errors=True)
                report = json.loads(self._parathinker("build", *words).output)
                train = report["splits"]["train"]
                step.facts = {
                    "checked": report["checked"],
                    "verdicts": report["samples"],
                    "splits": report["splits"],
                    "steps": report["steps"],
                }
                step.says = (
                    f"{report['checked']:,} answers were left to check; "
                    f"{train['examples']:,} examples, {train['right']:,} right paths and "
                    f"{train['wrong']:,} wrong ones"
                )

    def _train(self) -> None:
        recipe = yaml.safe_load((ROOT / "recipes" / "chain.yaml").read_text("utf-8"))
        recipe["model"]["base"] = str(self._base)
        stage = recipe["stages"][0]
        stage["data"]["files"] = [str(self._dataset / "train.parquet")]
        self._recipe.write_text(yaml.safe_dump(recipe, sort_keys=False), "utf-8")
        folder = self._run / stage["name"]
        log = self._output / "logs" / "train.log"
        words = ["train", self._recipe, "--output", self._run, *self._threads]

        def far_enough() -> bool:
            if not checkpoints(folder):
                return False
            steps = logged_losses(log.read_text("utf-8", "replace"))
            past = max(steps, default=0) - stage["save_steps"]
            return past >= STEPS_AFTER_CHECKPOINT and past % stage["save_steps"] != 0

        with self._ledger.step("train, killed") as step:
            if step:
                log.unlink(missing_ok=True)
                self._parathinker("train", *words, kill_when=far_enough)
                newest = int(checkpoints(folder)[0].name.rpartition("-")[2])
                losses = logged_losses(log.read_text("utf-8", "replace"))
                step.facts = {"losses": list(losses.items()), "checkpoint": newest}
                step.says = f"SIGKILL after step {max(losses)}; checkpoint {newest} is there"
        with self._ledger.step("train, again") as step:
            if step:
                begin = log.stat().st_size
                self._parathinker("train", *words)
                killed = self._ledger.facts("train, killed")
                text = log.read_bytes()[begin:].decode("utf-8", "replace")
                losses = logged_losses(text)
                found = resumption(dict(killed["losses"]), losses, killed["checkpoint"])
                step.facts = {**found.to_dict(), "losses": list(losses.items())}
                step.says = (
                    f"went on from checkpoint {found.went_on_from}; {found.repeated} steps were "
                    f"computed again, with the same losses; step {max(losses)}: loss "
                    f"{losses[max(losses)]}"
                )

    def _export(self) -> None:
        with self._ledger.step("models export") as step:
            if step:
                shutil.rmtree(self._model, ignore_errors=True)
                self._parathinker("export", "models", "export", self._run, "--output", self._model)
                size = sum(file.stat().st_size for file in self._model.iterdir())
                step.facts = {"folder": str(self._model), "bytes": size}
                step.says = f"{self._model}, {size / 1e6:,.0f} MB"

    def _measure(self) -> None:
        with self._ledger.step("after training") as step:
            if step:
                held_out = _questions(self._held_out)
                table = trained_rows(self._model, held_out, self._sizes.paths, TEMPERATURE)
                step.facts = {"rows": [one.to_dict() for one in table]}
                step.says = "; ".join(f"{one.method}: {one.accuracy:.0f} %" for one in table)

    def _ask(self) -> None:
        """The first held-out question, whichever it is."""
        with self._ledger.step("ask") as step:
            if step:
                first = _questions(self._held_out)[0]
                words = ["ask", first.question, "--model", self._model, "--seed", "0"]
                words += ["--paths", str(self._sizes.paths), "--termination", "last-finish"]
                words += ["--answer", str(first.answer), "--plain"]
                shown = self._parathinker("ask", *words).output.strip()
                step.facts = {"words": list(map(str, words)), "shown": shown}
                step.says = shown.splitlines()[-1]


def _questions(file: Path) -> list[Question]:
    return list(read_questions(file))


if __name__ == "__main__":
    sys.exit(main())
