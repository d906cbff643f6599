/** Tokens, seconds and tokens a second. */

import { seconds, tokens, whole } from "../format";
import { allTokens, pathTokens, type Run } from "../run";

export function Figures({ run }: { run: Run }) {
  const all = allTokens(run);
  const took = run.state === "done" && run.timings ? run.timings.total_s : run.seconds;
  const thought = run.usage?.completion_tokens_details?.reasoning_tokens ?? pathTokens(run);
  return (
    <dl class="figures">
      <div>
        <dt>Tokens</dt>
        <dd>{whole(all)}</dd>
      </div>
      <div>
        <dt>Tokens/s</dt>
        <dd>{took > 0 ? whole(all / took) : "–"}</dd>
      </div>
      <div>
        <dt>Time</dt>
        <dd>{seconds(took)}</dd>
      </div>
      {run.state === "done" && run.usage && (
        <div class="split">
          <dt>Of these</dt>
          <dd>
            {tokens(thought)} of thought, {whole(all - thought)} of answer
          </dd>
        </div>
      )}
    </dl>
  );
}
