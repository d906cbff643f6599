/**
 * When each path wrote how much, when it ended, and when the summary began. Its slider shows the run
 * as it was at any moment, and plays it again at a pace one can follow.
 */

import { useEffect, useRef, useState } from "preact/hooks";

import { hueOf, seconds, stateOf } from "../format";
import type { Round, Run, Strand } from "../run";
import { moment } from "../session";
import { useWidth } from "./hooks";

const ROW = 18;
const BAR = 13;
const LEFT = 30;
const RIGHT = 14;
const AXIS = 22;
const PLAY_SECONDS = 8;

export function Timeline({ run, whole }: { run: Run; whole: Run }) {
  const ref = useRef<HTMLDivElement>(null);
  const width = useWidth(ref);
  const paths = Math.max(...whole.rounds.map(({ lanes }) => lanes.length));
  const end = Math.max(whole.seconds, 0.001);
  const x = (at: number): number => LEFT + (Math.min(at, end) / end) * Math.max(0, width - LEFT - RIGHT);
  const height = (paths + 1) * ROW + AXIS;
  const most = Math.max(1, ...whole.rounds.flatMap(({ lanes }) => lanes.map((lane) => lane.tokens)));
  const over = whole.state !== "thinking";
  return (
    <section class="timeline" aria-label="Timeline">
      <div class="head">
        <h3>Timeline</h3>
        {over && <Player whole={whole} />}
      </div>
      <div ref={ref}>
        <svg width={width} height={height} role="img" aria-label={inWords(run)}>
          {ticks(end, width).map((at) => (
            <g key={at} class="tick">
              <line x1={x(at)} x2={x(at)} y1={0} y2={height - AXIS + 4} />
              <text x={x(at)} y={height - 5}>
                {at} s
              </text>
            </g>
          ))}
          {Array.from({ length: paths }, (_, i) => (
            <text key={i} class="name" x={LEFT - 8} y={i * ROW + BAR} style={{ "--hue": hueOf(i + 1) }}>
              {i + 1}
            </text>
          ))}
          <text class="name sum" x={LEFT - 8} y={paths * ROW + BAR}>
            Σ
          </text>
          {run.rounds.map((round, i) => (
            <g key={i}>
              {round.lanes.map((lane) => (
                <Row key={lane.path} lane={lane} round={round} run={run} top={(lane.path - 1) * ROW} x={x} most={most} />
              ))}
              <Row lane={round.summary} round={round} run={run} top={paths * ROW} x={x} most={0} />
              {round.summary.start !== null && (
                <line class="turn" x1={x(round.summary.start)} x2={x(round.summary.start)} y1={0} y2={paths * ROW + BAR + 3} />
              )}
            </g>
          ))}
          {moment.value !== null && (
            <line class="now" x1={x(moment.value)} x2={x(moment.value)} y1={0} y2={height - AXIS + 4} />
          )}
        </svg>
      </div>
      {over && (
        <input
          type="range"
          class="scrub"
          aria-label="Show the run as it was at this moment"
          aria-valuetext={seconds(run.seconds)}
          min={0}
          max={end}
          step={end / 500}
          value={run.seconds}
          onInput={(event) => goTo(event.currentTarget.valueAsNumber, whole)}
        />
      )}
    </section>
  );
}

interface RowProps {
  lane: Strand;
  round: Round;
  run: Run;
  top: number;
  x: (at: number) => number;
  /** Tokens at the bar's full height; with 0, the summary's characters fill it. */
  most: number;
}

function Row({ lane, round, run, top, x, most }: RowProps) {
  if (lane.start === null) return null;
  const floor = top + BAR + 1;
  const until = lane.end ?? run.seconds;
  const full = most || Math.max(1, lane.text.length);
  const tall = ([, characters, count]: Strand["marks"][number]): number =>
    floor - ((most ? count : characters) / full) * BAR;
  const line = lane.marks.map((mark) => `L${x(mark[0])} ${tall(mark)}`).join("");
  const last = lane.marks.at(-1);
  const level = last ? tall(last) : floor;
  const isFirst = lane.path !== 0 && round.first === lane.path;
  return (
    <g class="bar" data-ending={lane.ending ?? undefined} data-summary={lane.path === 0} style={{ "--hue": hueOf(lane.path) }}>
      <path class="area" d={`M${x(lane.start)} ${floor}${line}L${x(until)} ${level}V${floor}Z`} />
      <line class="base" x1={x(lane.start)} x2={x(until)} y1={floor} y2={floor} />
      {lane.end !== null && <End ending={lane.ending} x={x(until)} y={floor - BAR / 2} first={isFirst} />}
      <title>{`${lane.path ? `Path ${lane.path}: ${stateOf(lane, round, run)}` : "Summary"}`}</title>
    </g>
  );
}

function End({ ending, x, y, first }: { ending: Strand["ending"]; x: number; y: number; first: boolean }) {
  if (ending === "stop") return <circle class={first ? "end first" : "end"} cx={x} cy={y} r={first ? 5 : 3.5} />;
  return <path class="end" d={`M${x - 3.5} ${y - 3.5}l7 7m0 -7l-7 7`} />;
}

/** Plays the run again, over a few seconds or as long as it took. */
function Player({ whole }: { whole: Run }) {
  const [playing, setPlaying] = useState(false);
  useEffect(() => {
    if (!playing) return;
    const pace = whole.seconds / Math.max(PLAY_SECONDS, whole.seconds);
    const from = moment.peek() ?? 0;
    const began = performance.now();
    let request = requestAnimationFrame(function draw() {
      const at = from + (pace * (performance.now() - began)) / 1000;
      goTo(at, whole);
      if (at < whole.seconds) request = requestAnimationFrame(draw);
      else setPlaying(false);
    });
    return () => cancelAnimationFrame(request);
  }, [playing, whole]);
  const slower = PLAY_SECONDS / whole.seconds;
  return (
    <button type="button" class="quiet" onClick={() => setPlaying(!playing)}>
      {playing ? "Pause" : slower > 1.5 ? `Watch again, ${Math.round(slower)} times slower` : "Watch again"}
    </button>
  );
}

function goTo(at: number, whole: Run): void {
  moment.value = at >= whole.seconds ? null : at;
}

/** Round numbers of seconds, with room for their labels. */
function ticks(end: number, width: number): number[] {
  const most = Math.max(2, Math.floor(width / 90));
  const rough = end / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5, 10].find((factor) => factor * power >= rough) ?? 10);
  return Array.from({ length: Math.floor(end / step) + 1 }, (_, i) => Number((i * step).toPrecision(6)));
}

function inWords(run: Run): string {
  const of = (round: Round): string => {
    const first = round.lanes.find(({ path }) => path === round.first);
    const finish = first?.end == null ? "" : ` Path ${first.path} finished first, at ${seconds(first.end)}.`;
    const { start } = round.summary;
    return finish + (start === null ? "" : ` The summary began at ${seconds(start)}.`);
  };
  return `Tokens over time, a row for each path; ${seconds(run.seconds)} in all.${run.rounds.map(of).join("")}`;
}
