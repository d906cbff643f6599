/** What the summary says, and which paths say the same. */

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

import type { Agreement } from "../agreement";
import { listed } from "../format";
import type { Round, Run } from "../run";

interface Props {
  run: Run;
  round: Round;
  isLast: boolean;
  agreement: Agreement | null;
}

export function AnswerView({ run, round, isLast, agreement }: Props) {
  const { text, start } = round.summary;
  const earlier = !isLast || (run.state === "thinking" && round !== run.rounds.at(run.settings.rounds - 1));
  return (
    <section class="answer-box" aria-label={earlier ? "This round's summary" : "Answer"} data-begun={start !== null}>
      <h3>{earlier ? "Summary of this round" : "Answer"}</h3>
      {text.trim() ? <Prose text={text} /> : <p class="note">{placeholder(run)}</p>}
      {agreement && <Agreeing agreement={agreement} />}
    </section>
  );
}

function placeholder(run: Run): string {
  switch (run.state) {
    case "thinking":
      return "Comes once thinking has ended, and reads all paths.";
    case "stopped":
      return "Stopped before the answer.";
    case "failed":
      return "No answer came.";
    case "done":
      return "The answer is empty.";
  }
}

type Render = typeof import("../markdown").markdown;
let loaded: Render | null = null;

/** Markdown and formulas take a while to load: until they are here, the text stands as it is. */
function Prose({ text }: { text: string }) {
  const ref = useRef<HTMLDivElement>(null);
  const [render, setRender] = useState<Render | null>(() => loaded);
  useEffect(() => {
    if (render) return;
    void import("../markdown").then(({ markdown }) => {
      loaded = markdown;
      setRender(() => markdown);
    });
  }, [render]);
  useLayoutEffect(() => {
    ref.current?.replaceChildren(render ? render(text) : text);
  }, [text, render]);
  return <div ref={ref} class="prose" />;
}

function Agreeing({ agreement: { same, other, none } }: { agreement: Agreement }) {
  const all = same.length + other.length + none.length;
  const parts = [
    same.length ? `${name(same, all)} ${same.length > 1 ? "say" : "says"} the same answer` : "No path says the same answer",
    other.length ? `${name(other, all)} ${other.length > 1 ? "say" : "says"} another` : "",
    none.length ? `${name(none, all)} ${none.length > 1 ? "give" : "gives"} no final answer` : "",
  ];
  return <p class="agreement">{parts.filter(Boolean).join(". ")}.</p>;
}

function name(paths: number[], all: number): string {
  if (paths.length > 1 && paths.length === all) return `All ${all} paths`;
  return `${paths.length > 1 ? "Paths" : "Path"} ${listed(paths)}`;
}
