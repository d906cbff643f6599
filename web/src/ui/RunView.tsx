/** A question being thought through, or one that was: rounds of paths, answers, and the timeline. */

import { useState } from "preact/hooks";

import { agreementIn } from "../agreement";
import type { Run } from "../run";
import { question } from "../session";
import { AnswerView } from "./AnswerView";
import { Braid } from "./Braid";
import { Figures } from "./Figures";
import { Lanes } from "./Lanes";
import { RoundTabs } from "./RoundTabs";
import { Timeline } from "./Timeline";

/** `run` is the run at the moment on show, `whole` all that is known of it. */
export function RunView({ run, whole }: { run: Run; whole: Run }) {
  const [picked, setPicked] = useState<number | null>(null);
  const latest = run.rounds.length - 1;
  const index = Math.min(picked ?? latest, latest);
  const round = run.rounds[index]!;
  const agreement = agreementIn(round);
  return (
    <article class="run" aria-label="Thinking and answer">
      <h2 class={run.question === question.value.trim() ? "unseen" : "asked"}>{run.question}</h2>
      <RoundTabs count={run.rounds.length} index={index} pick={setPicked} />
      <div id="round" {...(run.rounds.length > 1 ? { role: "tabpanel", "aria-labelledby": `round-${index}` } : {})}>
        <Lanes run={run} round={round} number={index + 1} agreement={agreement} />
        <Braid round={round} agreement={agreement} />
        <AnswerView run={run} round={round} isLast={index === latest} agreement={agreement} />
      </div>
      <Figures run={run} />
      <Timeline run={run} whole={whole} />
    </article>
  );
}
