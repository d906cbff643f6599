/** Lines from the paths to the summary: full where both say the same answer. */

import { useRef } from "preact/hooks";

import type { Agreement } from "../agreement";
import { hueOf } from "../format";
import type { Round } from "../run";
import { useWidth } from "./hooks";

const HEIGHT = 64;
const RADIUS = 9;

export function Braid({ round, agreement }: { round: Round; agreement: Agreement | null }) {
  const ref = useRef<HTMLDivElement>(null);
  const width = useWidth(ref);
  const begun = round.summary.start !== null;
  const middle = width / 2;
  const step = Math.min(64, (width - 2 * RADIUS - 2) / Math.max(1, round.lanes.length - 1));
  const left = middle - (step * (round.lanes.length - 1)) / 2;
  return (
    <div ref={ref} class="braid" data-begun={begun} aria-hidden="true">
      <svg width={width} height={HEIGHT}>
        {round.lanes.map(({ path, ending }, i) => {
          const x = left + i * step;
          const says = agreement?.same.includes(path) ? "same" : agreement ? "other" : "open";
          return (
            <g key={path} data-says={says} data-ending={ending ?? undefined} style={{ "--hue": hueOf(path) }}>
              {begun && <path d={`M${x} ${2 * RADIUS}C${x} ${HEIGHT * 0.75} ${middle} ${HEIGHT * 0.45} ${middle} ${HEIGHT}`} />}
              <circle cx={x} cy={RADIUS + 1} r={RADIUS} />
              <text x={x} y={RADIUS + 5}>
                {path}
              </text>
            </g>
          );
        })}
      </svg>
    </div>
  );
}
