"""Examples on one self-contained web page, to be read in a browser, also offline.

What models wrote is data here, never HTML: it travels as JSON in which no tag can begin, is put on
the page as text, and the page's policy lets no script run but the one below.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterable

from parathinker.data.schema import Example

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --right: #0072b2; --wrong: #d55e00; }
* { box-sizing: border-box; }
body { margin: 0; font: 15px/1.5 system-ui, sans-serif; display: grid; height: 100vh;
  grid-template: auto 1fr / minmax(16rem, 24rem) 1fr; }
header { grid-column: 1 / -1; display: flex; gap: .75rem; align-items: center; flex-wrap: wrap;
  padding: .5rem 1rem; border-bottom: 1px solid var(--line); }
h1 { font-size: 1rem; margin: 0; }
input, select { font: inherit; padding: .2rem .5rem; }
input { flex: 1; min-width: 10rem; }
nav { overflow: auto; border-right: 1px solid var(--line); }
nav button { display: block; width: 100%; padding: .4rem 1rem; border: 0; text-align: left;
  border-bottom: 1px solid var(--line); background: none; color: inherit; font: inherit; }
nav button[hidden] { display: none; }
nav button[aria-current=true] { background: #8883; }
nav small, .facts { opacity: .75; }
main { overflow: auto; padding: 1rem; scroll-margin-top: 6rem; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; font: 13px/1.5 ui-monospace,
  monospace; }
.summary { border-left: 4px solid currentcolor; padding-left: .75rem; margin: 1rem 0; }
.paths { display: grid; grid-auto-flow: column; grid-auto-columns: minmax(22rem, 1fr);
  gap: .75rem; overflow-x: auto; }
.path { border: 1px solid var(--line); border-top: 4px solid #888; padding: .5rem .75rem; }
.path.right { border-top-color: var(--right); }
.path.wrong { border-top-color: var(--wrong); }
.path h3 { font-size: .9rem; margin: 0 0 .5rem; }
.path pre { max-height: 65vh; overflow: auto; }
@media (max-width: 48rem) {
  body { display: block; height: auto; }
  header { position: sticky; top: 0; background: Canvas; }
  nav { max-height: 35vh; border-right: 0; border-bottom: 1px solid var(--line); }
  .paths { grid-auto-flow: row; grid-auto-columns: auto; }
  .path pre { max-height: none; }
}
"""

_SCRIPT = """
"use strict";
const examples = JSON.parse(document.getElementById("examples").textContent);
const list = document.querySelector("nav"), main = document.querySelector("main");
const search = document.querySelector("input"), filter = document.querySelector("select");
const make = (name, text, kind) => {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
};
const mark = (path) => path.correct === null ? "not checked" : path.correct ? "right" : "wrong";
const kindOf = (example) => {
  const marks = example.paths.map(mark);
  if (marks.includes("right") && marks.includes("wrong")) return "mixed";
  return marks.includes("right") ? "right" : marks.includes("wrong") ? "wrong" : "unchecked";
};
const haystack = (example) => [example.question, example.id, example.source, example.answer,
  example.summary, ...example.paths.map((path) => path.text)].join("\\n").toLowerCase();
const rows = examples.map((example, index) => {
  const button = make("button");
  const right = example.paths.filter((path) => path.correct === true).length;
  button.append(make("div", example.question.slice(0, 120)), make("small",
    `${right} of ${example.paths.length} right \\u00b7 ${example.source || "unknown"}`));
  button.onclick = () => { show(index); main.scrollIntoView(); };
  list.append(button);
  return { button, kind: kindOf(example), text: haystack(example) };
});
function show(index) {
  const example = examples[index];
  rows.forEach((row, i) => row.button.setAttribute("aria-current", i === index));
  main.replaceChildren();
  const question = make("pre", example.question);
  const facts = make("p", `answer: ${example.answer ?? "unknown"} \\u00b7 ${example.split} \\u00b7 `
    + `${example.source || "unknown source"} \\u00b7 ${example.id}`, "facts");
  const summary = make("section", undefined, "summary");
  summary.append(make("h3", "Summary"), make("pre", example.summary ?? "(none)"));
  const paths = make("div", undefined, "paths");
  example.paths.forEach((path, i) => {
    const box = make("section", undefined, `path ${mark(path)}`);
    const sign = { right: "\\u2713 ", wrong: "\\u2717 " }[mark(path)] ?? "";
    box.append(make("h3", `Path ${i + 1}: ${sign}${mark(path)}, answers ${path.answer ?? "nothing"}`
      + (path.learn ? path.given ? `, its first ${path.given} characters given` : ""
        : ", only read")), make("pre", path.text));
    paths.append(box);
  });
  main.append(question, facts, summary, paths);
  main.scrollTop = 0;
}
function update() {
  const wanted = search.value.toLowerCase(), kind = filter.value;
  let shown = 0;
  rows.forEach((row) => {
    row.button.hidden = !((kind === "all" || row.kind === kind) && row.text.includes(wanted));
    shown += row.button.hidden ? 0 : 1;
  });
  document.getElementById("count").textContent = `${shown} of ${rows.length}`;
}
search.oninput = update;
filter.onchange = update;
update();
if (rows.length) show(0);
"""


def page(examples: Iterable[Example], title: str) -> str:
    """One HTML page with these examples: a list to filter and search, and each one's paths."""
    rows = [example.to_dict() for example in examples]
    return (
        "<!doctype html>\n"
        '<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{html.escape(_policy())}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body><header><h1>{html.escape(title)}</h1>"
        '<input type="search" placeholder="Search questions, paths and summaries" '
        'aria-label="Search">'
        '<select aria-label="Filter"><option value="all">all</option>'
        '<option value="mixed">right and wrong paths</option>'
        '<option value="right">only right paths</option>'
        '<option value="wrong">no right path</option>'
        '<option value="unchecked">not checked</option></select><span id="count"></span></header>\n'
        "<nav></nav><main></main>\n"
        f'<script type="application/json" id="examples">{_inert_json(rows)}</script>\n'
        f"<script>{_SCRIPT}</script></body></html>\n"
    )


def _policy() -> str:
    digest = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    style = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'sha256-{style}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _inert_json(value: object) -> str:
    """JSON without a character that could end the script element, or begin a tag in it."""
    text = json.dumps(value)  # beyond ASCII all is escaped
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
