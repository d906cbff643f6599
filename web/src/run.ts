/**
 * A question being thought through: what has come of it so far, as plain data.
 *
 * Events change it in place, many between two frames; whoever shows it looks once a frame. `runAt`
 * gives it as it was at an earlier moment.
 */

import type { Ending, ThinkingEvent, Timings, Usage } from "./stream";

export type Termination = "first-finish" | "half-finish" | "last-finish";

export interface Settings {
  paths: number | "auto";
  termination: Termination;
  rounds: number;
  /** What is null is left to the server. */
  maxPathTokens: number | null;
  temperature: number | null;
  seed: number | null;
}

/** How much was there when: seconds since the question, characters, tokens. */
export type Mark = [seconds: number, characters: number, tokens: number];

/** A path or a summary. */
export interface Strand {
  /** From 1; 0 is the summary. */
  path: number;
  text: string;
  tokens: number;
  start: number | null;
  end: number | null;
  ending: Ending | "stopped" | null;
  marks: Mark[];
}

export interface Round {
  lanes: Strand[];
  summary: Strand;
  /** The path that closed first. */
  first: number | null;
}

export type RunState = "thinking" | "done" | "stopped" | "failed";

export interface Run {
  id: string;
  question: string;
  model: string;
  settings: Settings;
  /** Milliseconds since 1970. */
  askedAt: number;
  rounds: Round[];
  state: RunState;
  /** Since the question was asked, on this side of the network. */
  seconds: number;
  usage: Usage | null;
  timings: Timings | null;
}

const MARKS_KEPT = 80;

function newStrand(path: number): Strand {
  return { path, text: "", tokens: 0, start: null, end: null, ending: null, marks: [] };
}

function newRound(lanes: number): Round {
  return {
    lanes: Array.from({ length: lanes }, (_, i) => newStrand(i + 1)),
    summary: newStrand(0),
    first: null,
  };
}

export function newRun(question: string, model: string, settings: Settings): Run {
  const lanes = settings.paths === "auto" ? 0 : settings.paths;
  return {
    id: `${Date.now().toString(36)}-${Math.random().toString(36).slice(2, 8)}`,
    question,
    model,
    settings,
    askedAt: Date.now(),
    rounds: [newRound(lanes)],
    state: "thinking",
    seconds: 0,
    usage: null,
    timings: null,
  };
}

/** Takes in an event that came `at` seconds after the question. */
export function apply(run: Run, event: ThinkingEvent, at: number): void {
  run.seconds = at;
  if (event.kind === "usage") {
    run.usage = event.usage;
    run.timings = event.timings;
    const before = run.rounds.slice(0, -1).reduce((sum, round) => sum + round.summary.tokens, 0);
    const thought = event.usage.completion_tokens_details?.reasoning_tokens;
    const last = run.rounds.at(-1)?.summary;
    if (last && thought !== undefined && before === 0) {
      last.tokens = event.usage.completion_tokens - thought;
    }
    return;
  }
  const round = roundOf(run, event.round, at);
  const strand = event.path === 0 ? round.summary : laneOf(round, event.path);
  strand.start ??= at;
  if (event.kind === "text") {
    strand.text += event.text;
    strand.tokens += event.tokens;
    strand.marks.push([at, strand.text.length, strand.tokens]);
  } else if (event.kind === "end") {
    strand.end = at;
    strand.ending = event.ending;
    if (event.path !== 0 && event.ending === "stop") round.first ??= event.path;
  }
}

function roundOf(run: Run, number: number | null, at: number): Round {
  while (number !== null && run.rounds.length < number) {
    // What was written before a further round is complete, and no event says so.
    end(run.rounds.at(-1)?.summary, at);
    run.rounds.push(newRound(run.rounds[0]?.lanes.length ?? 0));
  }
  return run.rounds[(number ?? run.rounds.length) - 1]!;
}

function end(summary: Strand | undefined, at: number): void {
  if (!summary || summary.start === null || summary.end !== null) return;
  summary.end = summary.marks.at(-1)?.[0] ?? at;
  summary.ending = "stop";
}

function laneOf(round: Round, path: number): Strand {
  while (round.lanes.length < path) round.lanes.push(newStrand(round.lanes.length + 1));
  return round.lanes[path - 1]!;
}

/** Nothing more will come: what was still open stopped here. */
export function close(run: Run, state: RunState, at: number): void {
  run.state = state;
  run.seconds = at;
  for (const strand of run.rounds.flatMap((round) => [...round.lanes, round.summary])) {
    if (strand.start !== null && strand.end === null) {
      strand.end = at;
      strand.ending = state === "done" ? "stop" : "stopped";
    }
    strand.marks = thinned(strand.marks);
  }
}

function thinned(marks: Mark[]): Mark[] {
  const step = Math.max(1, marks.length / MARKS_KEPT);
  const last = marks.length - 1;
  return marks.filter((_, i) => i === last || Math.floor(i / step) !== Math.floor((i - 1) / step));
}

/** The run as it was `at` seconds after the question. */
export function runAt(run: Run, at: number): Run {
  const rounds = run.rounds
    .filter((round, i) => i === 0 || round.lanes.some((lane) => began(lane, at)))
    .map((round) => {
      const first = round.lanes.find((lane) => lane.path === round.first);
      return {
        lanes: round.lanes.map((lane) => strandAt(lane, at)),
        summary: strandAt(round.summary, at),
        first: first && first.end !== null && first.end <= at ? round.first : null,
      };
    });
  return { ...run, rounds, seconds: at, state: at < run.seconds ? "thinking" : run.state };
}

function began(strand: Strand, at: number): boolean {
  return strand.start !== null && strand.start <= at;
}

function strandAt(strand: Strand, at: number): Strand {
  if (!began(strand, at)) return newStrand(strand.path);
  const over = strand.end !== null && strand.end <= at;
  if (over) return strand;
  const marks = strand.marks.filter(([seconds]) => seconds <= at);
  const [, characters, tokens] = between(strand, at);
  return { ...strand, text: strand.text.slice(0, characters), tokens, marks, end: null, ending: null };
}

/** How much was there at a moment: what came between two marks is taken to have come evenly. */
function between(strand: Strand, at: number): Mark {
  const next = strand.marks.findIndex(([seconds]) => seconds > at);
  const before: Mark = strand.marks.at(next < 0 ? -1 : next - 1) ?? [at, 0, 0];
  const from: Mark = next === 0 ? [strand.start ?? 0, 0, 0] : before;
  const to = strand.marks[next] ?? before;
  const share = to[0] > from[0] ? Math.max(0, (at - from[0]) / (to[0] - from[0])) : 1;
  const part = (a: number, b: number): number => Math.floor(a + Math.min(1, share) * (b - a));
  return [at, part(from[1], to[1]), part(from[2], to[2])];
}

export function pathTokens(run: Run): number {
  return run.rounds.flatMap((round) => round.lanes).reduce((sum, lane) => sum + lane.tokens, 0);
}

/** Of the whole run, as the server counts them once it is done; until then, those of the paths. */
export function allTokens(run: Run): number {
  return run.state === "done" && run.usage ? run.usage.completion_tokens : pathTokens(run);
}
