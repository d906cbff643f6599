/** The paths of a round, side by side. */

import { useRef } from "preact/hooks";

import type { Agreement } from "../agreement";
import type { Round, Run } from "../run";
import { useWidth } from "./hooks";
import { Lane } from "./Lane";

/** Pixels, with the gap: room for 21 letters, a line of the embedded model. */
const LEAST_WIDTH = 182;

interface Props {
  run: Run;
  round: Round;
  number: number;
  agreement: Agreement | null;
}

export function Lanes({ run, round, number, agreement }: Props) {
  const ref = useRef<HTMLDivElement>(null);
  const width = useWidth(ref);
  const count = round.lanes.length;
  const rows = Math.ceil(count / Math.max(1, Math.floor(width / LEAST_WIDTH)));
  const columns = Math.max(1, Math.ceil(count / Math.max(1, rows)));
  return (
    <div ref={ref} class="lanes" data-rows={Math.min(rows, 3)} style={{ "--columns": String(columns) }}>
      {round.lanes.map((lane) => (
        <Lane
          key={`${number}-${lane.path}`}
          lane={lane}
          round={round}
          run={run}
          says={!agreement ? null : agreement.same.includes(lane.path) ? "same" : "other"}
        />
      ))}
    </div>
  );
}
