/** Numbers and names as people read them. */

import type { Round, Run, Strand } from "./run";

const WHOLE = new Intl.NumberFormat("en");

export const whole = (value: number): string => WHOLE.format(Math.round(value));

export function seconds(value: number): string {
  return `${value < 10 ? value.toFixed(value < 1 ? 2 : 1) : whole(value)} s`;
}

export function tokens(count: number): string {
  return `${whole(count)} ${count === 1 ? "token" : "tokens"}`;
}

/** "1", "1 and 2", "1, 2 and 3". */
export function listed(numbers: number[]): string {
  return numbers.length < 2 ? numbers.join("") : `${numbers.slice(0, -1).join(", ")} and ${numbers.at(-1)}`;
}

/** What state a path is in, in a word or two. */
export function stateOf(lane: Strand, round: Round, run: Run): string {
  switch (lane.ending) {
    case "stop":
      return round.first === lane.path ? "finished first" : "finished";
    case "cut":
      return "cut";
    case "length":
      return "out of tokens";
    case "stopped":
      return run.state === "failed" ? "broken off" : "stopped";
    case null:
      if (lane.start !== null) return "thinking";
      return run.state === "thinking" ? "waiting" : "not begun";
  }
}

/** The golden angle keeps neighbours apart, however many there are. */
export function hueOf(path: number): string {
  return ((250 + (path - 1) * 137.508) % 360).toFixed(1);
}
