"""Fail if a model of the products task has not learnt it, before more time is spent on it.

python scripts/gate.py runs/even/parallel/model --least 25
"""

from __future__ import annotations

import argparse
import sys

from embed import MEASURED, SHOWN

from parathinker import ParaThinker, ThinkingParams
from parathinker.data import products

PROBLEMS = 50
BEHIND = MEASURED + SHOWN


def main() -> None:
    """Ask for greedy paths, and count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="folder of the model, or its name")
    parser.add_argument("--least", type=int, required=True, help=f"right ones, of {PROBLEMS}")
    args = parser.parse_args()
    asked = [e["question"] for e in products.held_out_problems(BEHIND + PROBLEMS)[BEHIND:]]
    params = ThinkingParams(paths=1, temperature=0.0, max_summary_tokens=1)
    with ParaThinker.from_pretrained(args.model) as model:
        answers = model.think(asked, params)
    pairs = zip(asked, answers, strict=True)
    right = sum(products.check(one, answer.paths[0].text) is True for one, answer in pairs)
    print(f"{args.model}: a greedy path is right on {right} of {PROBLEMS} problems")
    if right < args.least:
        sys.exit(f"fewer than {args.least}: another seed may learn it sooner, or more steps")


if __name__ == "__main__":
    main()
