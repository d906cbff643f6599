"use strict";
// Lists the answers of each run, filters them, and shows one. What models wrote only ever becomes
// the content of text nodes.
const RIGHT = "right", OTHER = "wrong or tied";
const PRESETS = [
  ["all answers", () => true],
  ["parallel right, majority wrong", (of) => of("parallel") === 1 && of("majority") < 1],
  ["majority right, parallel wrong", (of) => of("majority") === 1 && of("parallel") < 1],
  ["methods disagree", (of, all) => new Set(all).size > 1],
  ["all methods right", (of, all) => all.every((score) => score === 1)],
  ["all methods wrong", (of, all) => all.every((score) => score < 1)],
];

function make(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

const sign = (score) => score === 1 ? "✓" : score === 0 ? "✗" : `${Math.round(100 * score)} %`;
const word = (score) => score === null ? "not scored"
  : score === 1 ? "right" : score === 0 ? "wrong" : `scored ${Math.round(100 * score)} %`;
const kind = (score) => score === 1 ? "right" : score === null ? "" : "wrong";
const number = (value) => value.toLocaleString("en");

function labelled(text, control, name) {
  return make("label", { class: name }, text, control);
}

function choice(options) {
  return make("select", {}, ...options.map(([value, text]) => make("option", { value }, text)));
}

function browse(section) {
  const { methods, items } = JSON.parse(section.querySelector("script").textContent);
  if (!items.length) return;
  const marks = items.flatMap((item) => item.marks);
  const widths = [...new Set(marks.map((mark) => mark.width))].sort((a, b) => a - b);
  const benchmarks = [...new Set(items.map((item) => item.benchmark))];
  const search = make("input", { type: "search", autocomplete: "off" });
  const benchmark = choice([["", "all"], ...benchmarks.map((name) => [name, name])]);
  const width = choice(widths.map((p) => [p, `P = ${p}`]));
  width.value = widths[widths.length - 1];
  const preset = choice(PRESETS.map(([name], i) => [i, name]));
  const wanted = methods.map(() => choice([["", "any"], [RIGHT, RIGHT], [OTHER, OTHER]]));
  const reset = make("button", { type: "button" }, "Clear");
  const status = make("p", { role: "status" });
  const list = make("ol", { class: "list", "aria-label": "Answers" });
  const article = make("article", { tabindex: "-1", "aria-label": "One answer" });
  const filters = make("div", { class: "filters", role: "search" },
    labelled("Search questions and texts", search, "search"), labelled("Show", preset),
    labelled("at", width));
  if (benchmarks.length > 1) filters.append(labelled("Benchmark", benchmark));
  filters.append(reset, make("details", {}, make("summary", {}, "Right or wrong by method"),
    make("div", { class: "methods" }, ...methods.map((name, i) => labelled(name, wanted[i])))));
  section.append(filters, status, make("div", { class: "reader" }, list, article));

  const rows = items.map((item, i) => {
    const sample = items.some((other) => other.sample > 1) ? `, sample ${item.sample}` : "";
    const place = benchmarks.length > 1 ? `${item.benchmark} ` : "";
    const title = `${place}question ${item.number}${sample}`;
    const small = make("small");
    const button = make("button", { type: "button" }, make("span", {}, item.question.slice(0, 160)),
      small);
    const row = { item, title, small, button, entry: make("li", {}, button) };
    button.addEventListener("click", () => { show(row); article.focus(); });
    list.append(row.entry);
    return row;
  });
  let current = null, chosen = null;

  function scoreAt(item, method) {
    return item.marks.find((one) => one.method === method && one.width === +width.value)?.score;
  }

  function update() {
    const text = search.value.toLowerCase(), passes = PRESETS[preset.value][1];
    let shown = 0;
    for (const row of rows) {
      const { item } = row;
      const of = (method) => scoreAt(item, method);
      const all = methods.map(of).filter((score) => score !== undefined);
      const right = all.filter((score) => score === 1).length;
      row.small.textContent = `${row.title} · ${right} of ${all.length} methods right`;
      const fits = (!benchmark.value || item.benchmark === benchmark.value) && passes(of, all)
        && methods.every((method, i) => wanted[i].value === ""
          || (of(method) !== undefined && (of(method) === 1) === (wanted[i].value === RIGHT)));
      row.entry.hidden = !(fits && (!text || holds(item, text)));
      shown += row.entry.hidden ? 0 : 1;
    }
    status.textContent = `${number(shown)} of ${number(rows.length)} answers`;
    if (!current || current.entry.hidden) {
      const first = rows.find((row) => !row.entry.hidden);
      if (first) show(first); else { current = null; article.replaceChildren(); }
    }
  }

  function holds(item, text) {
    return item.question.toLowerCase().includes(text)
      || (item.reference ?? "").toLowerCase().includes(text)
      || item.texts.some((some) => some.some((one) => one.text.toLowerCase().includes(text)));
  }

  function show(row) {
    current?.button.removeAttribute("aria-current");
    current = row;
    row.button.setAttribute("aria-current", "true");
    const { item } = row;
    const detail = make("div");
    const table = make("table", { class: "marks" }, make("caption", {}, "Choose an answer to read"));
    table.append(make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "method"),
      ...widths.map((p) => make("th", { scope: "col" }, `P = ${p}`)))));
    const body = make("tbody"), buttons = [];
    for (const method of methods) {
      const line = make("tr", {}, make("th", { scope: "row" }, method));
      for (const p of widths) {
        const mark = item.marks.find((one) => one.method === method && one.width === p);
        const cell = make("td");
        if (mark) {
          const button = make("button", { type: "button", class: kind(mark.score),
            "aria-pressed": "false", "aria-label": `${method} at P = ${p}: ${word(mark.score)}` },
            sign(mark.score));
          button.addEventListener("click", () => pick(button, mark));
          buttons.push([button, mark]);
          cell.append(button);
        }
        line.append(cell);
      }
      body.append(line);
    }
    table.append(body);

    function pick(button, mark) {
      for (const [other] of buttons) other.setAttribute("aria-pressed", other === button);
      chosen = { method: mark.method, width: mark.width };
      detail.replaceChildren(...answer(item, mark));
    }

    const like = (method, p) => buttons.find(([, one]) => one.method === method && one.width === p);
    const begin = (chosen && like(chosen.method, chosen.width)) || like("parallel", +width.value)
      || buttons[buttons.length - 1];
    article.replaceChildren(make("h4", {}, row.title), scrolled(item.question, "Question"),
      make("p", {}, `Reference answer: ${item.reference ?? "none"}`),
      make("div", { class: "scroll", tabindex: "0", role: "region",
        "aria-label": "Methods" }, table), detail);
    pick(...begin);
  }

  search.addEventListener("input", later(update));
  for (const one of [benchmark, width, preset, ...wanted]) one.addEventListener("change", () => {
    if (one === width && chosen) chosen = { method: chosen.method, width: +width.value };
    update();
    if (one === width && current) show(current);
  });
  reset.addEventListener("click", () => {
    search.value = "";
    for (const one of [benchmark, preset, ...wanted]) one.selectedIndex = 0;
    update();
  });
  list.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    const there = rows.filter((row) => !row.entry.hidden).map((row) => row.button);
    const next = there[there.indexOf(document.activeElement) + step];
    if (next) { event.preventDefault(); next.focus(); }
  });
  update();
}

function answer(item, mark) {
  const facts = [`answers ${mark.answers.join(" and ") || "nothing"}`,
    `${number(mark.tokens)} tokens, ${number(mark.depth)} in a row`];
  if (mark.note) facts.push(mark.note);
  const parts = [make("h4", {}, `${mark.method}, P = ${mark.width}: `,
    make("span", { class: kind(mark.score) }, word(mark.score))), make("p", {}, facts.join(" · "))];
  const groups = mark.groups.map((at) => item.texts[at]);
  const summaries = groups.filter((some) => some.some((one) => one.is_summary)).flat();
  const paths = groups.filter((some) => some.every((one) => !one.is_summary));
  for (const one of summaries) parts.push(box("Summary", one, null));
  if (mark.cut !== null) {
    const some = paths.flat().slice(0, mark.width);
    const cut = some.filter((one) => one.tokens > mark.cut).length;
    if (cut) {
      parts.push(make("p", {}, `Of the sampled paths this answer took the first `
        + `${number(mark.cut)} tokens; ${cut} of ${some.length} are longer and were cut there. The `
        + "texts are the whole paths as they were sampled, and so are their marks."));
    }
    parts.push(boxes(some, "Path", mark.cut));
  } else {
    paths.forEach((some, i) => {
      if (paths.length > 1) parts.push(make("h5", {}, `Part ${i + 1}`));
      // Most of these are not meant to be answers yet, so only right ones are marked.
      const marked = some.map((one) => ({ ...one, score: one.score === 1 ? 1 : null }));
      parts.push(boxes(marked, paths.length > 1 ? "Text" : "Path", null));
    });
  }
  return parts;
}

function boxes(some, name, cut) {
  return make("div", { class: "texts" },
    ...some.map((one, i) => box(some.length > 1 ? `${name} ${i + 1}` : name, one, cut)));
}

function box(name, one, cut) {
  const ends = { stop: "finished", length: "out of tokens", cut: "cut" }[one.finish_reason]
    ?? one.finish_reason;
  const facts = [...(one.score === null ? [] : [word(one.score)]), `answers ${one.answer ?? "nothing"}`,
    `${number(one.tokens)} tokens`, ends];
  if (cut !== null && one.tokens > cut) facts.push(`cut at ${number(cut)}`);
  const tag = kind(one.score);
  return make("section", { class: tag ? `text is-${tag}` : "text" },
    make("h5", {}, `${name} `, make("span", { class: tag }, one.score === null ? "" : sign(one.score))),
    make("p", {}, facts.join(" · ")), scrolled(one.text, name));
}

function scrolled(text, name) {
  return make("pre", { tabindex: "0", role: "region", "aria-label": name }, text);
}

function later(work) {
  let timer = 0;
  return () => { clearTimeout(timer); timer = setTimeout(work, 200); };
}

document.querySelectorAll(".browser").forEach(browse);
