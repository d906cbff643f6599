/** One path: its number, what state it is in, and what it has written. */

import { useState } from "preact/hooks";

import { answerOf } from "../agreement";
import { hueOf, stateOf, whole } from "../format";
import type { Round, Run, Strand } from "../run";
import { GrowingText } from "./GrowingText";

interface Props {
  lane: Strand;
  round: Round;
  run: Run;
  /** Whether it gives the same answer as the summary; null while that can't be told. */
  says: "same" | "other" | null;
}

export function Lane({ lane, round, run, says }: Props) {
  const [wide, setWide] = useState(false);
  const state = stateOf(lane, round, run);
  const answer = answerOf(lane);
  return (
    <section
      class={`lane${wide ? " wide" : ""}`}
      data-state={state.replaceAll(" ", "-")}
      style={{ "--hue": hueOf(lane.path) }}
      aria-label={`Path ${lane.path}, ${state}`}
    >
      <header>
        <h3>
          <span class="number">{lane.path}</span>
          <span class="state">{state}</span>
        </h3>
        <span class="tokens" title="Tokens">
          {whole(lane.tokens)}
          <span class="unseen"> tokens</span>
        </span>
        <button
          type="button"
          class="quiet icon"
          aria-pressed={wide}
          aria-label={`Show path ${lane.path} wide`}
          onClick={() => setWide(!wide)}
        >
          <svg viewBox="0 0 16 16" aria-hidden="true">
            <path d={wide ? "M6.5 2.5v4h-4M9.5 13.5v-4h4" : "M9.5 2.5h4v4M6.5 13.5h-4v-4"} />
          </svg>
        </button>
      </header>
      <GrowingText text={lane.text} label={`What path ${lane.path} wrote`} />
      {answer !== null && (
        <footer data-says={says ?? undefined}>
          <span class="answer" title={answer}>
            {answer}
          </span>
          {says === "same" && <span class="same">says the same answer</span>}
        </footer>
      )}
    </section>
  );
}
