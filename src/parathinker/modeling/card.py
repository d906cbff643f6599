"""The model card of an exported model: what it is, how it was made, what was measured."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parathinker.modeling.folders import EMBEDDED, embedded_models
from parathinker.modeling.gguf import PACKAGES, package_licence

_CONDITIONS = ("budget", "summary_tokens", "samples", "temperature", "top_p", "seed")
"""Settings of an evaluation that a card names."""


@dataclass(frozen=True)
class CardFacts:
    """What goes into a card."""

    name: str
    base: str | None
    """A hub id, a folder, or an embedded model's name; None for a model trained from scratch."""
    licence: str | None
    """The base's, as its own card says; None where that is not known."""
    max_paths: int
    parameters: int
    dtype: str
    merged: bool
    recipe: dict[str, Any]
    evaluation: dict[str, Any] | None


def base_licence(base: str) -> str | None:
    """The licence that a base's own card names; asks the hub for the card of a hub id.

    None where there is no card, or it names none.
    """
    from huggingface_hub import ModelCard

    if base in PACKAGES:
        return package_licence(PACKAGES[base])
    folder = EMBEDDED / base if base in embedded_models() else Path(base)
    try:
        if folder.is_dir():
            card = ModelCard.load(folder / "README.md", ignore_metadata_errors=True)
        else:
            card = ModelCard.load(base, ignore_metadata_errors=True)
    except (OSError, ValueError):  # none there; the hub cannot be reached
        return None
    licence = card.data.to_dict().get("license")
    return licence if isinstance(licence, str) else None


def model_card(facts: CardFacts) -> str:
    """The card as Markdown, with the metadata that the hub reads."""
    from huggingface_hub import ModelCardData

    on_hub = facts.base if facts.base is not None and _is_hub_id(facts.base) else None
    metadata = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-generation",
        license=facts.licence,
        base_model=on_hub,
        tags=["parallel-thinking", "parathinker"],
    )
    parts = [
        f"---\n{metadata.to_yaml()}\n---",
        f"# {facts.name}",
        _what_it_is(facts),
        _how_to_use(facts),
        _training(facts),
        _measured(facts),
        _licence(facts),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _what_it_is(facts: CardFacts) -> str:
    origin = f"made from {_shown(facts.base)}" if facts.base else "trained from scratch"
    how = ", by adapters that were merged into it" if facts.merged else ""
    return (
        f"A language model that thinks along up to {facts.max_paths} independent paths and answers "
        "with one summary that reads all of them (native parallel thinking, "
        f"[arXiv 2509.04475](https://arxiv.org/abs/2509.04475)), {origin}{how}. "
        f"{facts.parameters:,} parameters, stored in {facts.dtype}."
    )


def _how_to_use(facts: CardFacts) -> str:
    paths = min(8, facts.max_paths)
    return f"""## Use

```python
from parathinker import ParaThinker, ThinkingParams

model = ParaThinker.from_pretrained("PATH_OR_HUB_ID")
print(model.think("What is 12 * 34?", ThinkingParams(paths={paths})).text)
```

transformers opens it as an ordinary causal language model; parallel thinking needs the thought \
embeddings `self_attn.seg_embeddings.weight` of each layer, which this package attaches."""


def _training(facts: CardFacts) -> str:
    if not facts.recipe:
        return ""
    import yaml

    data = [
        f"- stage `{stage['name']}`: {_data(stage['data'])}"
        for stage in facts.recipe.get("stages", ())
    ]
    recipe = yaml.safe_dump(_plain(facts.recipe), sort_keys=False, width=100)
    return "\n".join(["## Training", "", "Data:", *data, "", "```yaml", recipe + "```"])


def _data(data: dict[str, Any]) -> str:
    made = {"products": "`products`", "sums": "`basic_arithmetic`, additions alone"}
    if data["source"] in made:
        return f"problems of reasoning-gym's {made[data['source']]}, worked out by a program"
    return ", ".join(f"`{_shown(file)}`" for file in data["files"])


def _measured(facts: CardFacts) -> str:
    if facts.evaluation is None:
        return "## Evaluation\n\nNothing was measured."
    try:
        lines = [_row(row) for row in facts.evaluation["rows"]]
        settings = {name: facts.evaluation["settings"][name] for name in _CONDITIONS}
    except (KeyError, TypeError):  # measured by something else
        return f"## Evaluation\n\n```json\n{json.dumps(facts.evaluation, indent=1)}\n```"
    conditions = ", ".join(
        f"{name.replace('_', ' ')} {value}" for name, value in settings.items() if value is not None
    )
    head = "| benchmark | method | paths | questions | accuracy, % ± standard error | tokens |"
    said = f"Measured by `parathinker eval` with {conditions}."
    return "\n".join(["## Evaluation", "", said, "", head, "|---|---|---|---|---|---|", *lines])


def _row(row: dict[str, Any]) -> str:
    accuracy = row["accuracy"]
    error = "" if accuracy["error"] is None else f" ± {100 * accuracy['error']:.1f}"
    tokens = row["path_tokens"] + row["summary_tokens"]
    return (
        f"| {row['benchmark']} | {row['method']} | {row['width']} | {accuracy['questions']} "
        f"| {100 * accuracy['mean']:.1f}{error} | {tokens:,.0f} |"
    )


def _licence(facts: CardFacts) -> str:
    if facts.base is None:
        return ""
    if facts.licence is None:
        return (
            f"## Licence\n\nThe licence of the base, {_shown(facts.base)}, was not found; it "
            "applies to this model too."
        )
    return f"## Licence\n\n{facts.licence}, that of the base, {_shown(facts.base)}."


def _is_hub_id(base: str) -> bool:
    return base not in embedded_models() and not Path(base).is_dir() and base.count("/") == 1


def _shown(name: str | None) -> str:
    """A folder's own name: where it lay on somebody's machine is nobody's business."""
    if name is None:
        return ""
    return name if _is_hub_id(name) else Path(name).name


def _plain(value: Any) -> Any:
    """A recipe without what it does not say, and without places on somebody's machine."""
    if isinstance(value, dict):
        return {
            name: _plain(item) for name, item in value.items() if item not in (None, {}, [], ())
        }
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, str) and Path(value).is_absolute():
        return Path(value).name
    return value
