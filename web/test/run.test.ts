import { describe, expect, it } from "vitest";

import { apply, close, newRun, runAt, type Run, type Settings } from "../src/run";

const SETTINGS: Settings = {
  paths: 2,
  termination: "first-finish",
  rounds: 1,
  maxPathTokens: null,
  temperature: null,
  seed: null,
};

/** Two paths of which the second finishes first, and a summary. */
function thought(): Run {
  const run = newRun("How many?", "scripted", SETTINGS);
  for (const path of [1, 2]) apply(run, { kind: "start", path, round: 1 }, 0.1);
  for (let i = 1; i <= 300; i++) {
    for (const path of [1, 2]) apply(run, { kind: "text", path, round: 1, text: "ab", tokens: 1 }, 0.1 + i * 0.01);
  }
  apply(run, { kind: "end", path: 2, round: 1, ending: "stop" }, 3.2);
  apply(run, { kind: "end", path: 1, round: 1, ending: "cut" }, 3.2);
  apply(run, { kind: "text", path: 0, round: null, text: "Answer: 4", tokens: 0 }, 3.4);
  apply(run, { kind: "end", path: 0, round: null, ending: "stop" }, 3.6);
  close(run, "done", 3.7);
  return run;
}

describe("a run", () => {
  it("knows who finished first, and who was cut", () => {
    const round = thought().rounds[0]!;
    expect(round.first).toBe(2);
    expect(round.lanes.map((lane) => [lane.ending, lane.tokens])).toEqual([["cut", 300], ["stop", 300]]);
    expect(round.summary.text).toBe("Answer: 4");
  });

  it("keeps few marks, and can still be shown as it was at any moment", () => {
    const run = thought();
    const [lane] = run.rounds[0]!.lanes;
    expect(lane!.marks.length).toBeLessThan(100);
    for (const at of [0.5, 1.111, 2, 3]) {
      const then = runAt(run, at).rounds[0]!;
      expect(Math.abs(then.lanes[0]!.tokens - (at - 0.1) * 100)).toBeLessThan(3);
      expect(lane!.text.startsWith(then.lanes[0]!.text)).toBe(true);
      expect([then.first, then.summary.text]).toEqual([null, ""]);
    }
    expect(runAt(run, 3.7).rounds).toEqual(run.rounds);
  });

  it("ends a round's summary when the next round begins", () => {
    const run = newRun("How many?", "scripted", { ...SETTINGS, rounds: 2 });
    apply(run, { kind: "text", path: 1, round: 1, text: "x", tokens: 1 }, 1);
    apply(run, { kind: "text", path: 0, round: 1, text: "Answer: 5", tokens: 3 }, 2);
    apply(run, { kind: "start", path: 1, round: 2 }, 3);
    apply(run, { kind: "text", path: 0, round: null, text: "Answer: 6", tokens: 0 }, 4);
    expect(run.rounds.map(({ summary }) => summary.text)).toEqual(["Answer: 5", "Answer: 6"]);
    expect(run.rounds[0]!.summary.ending).toBe("stop");
  });

  it("that is stopped says so of every path that was open, and of no other", () => {
    const run = newRun("How many?", "scripted", SETTINGS);
    apply(run, { kind: "start", path: 1, round: 1 }, 0.1);
    close(run, "stopped", 1);
    expect(run.rounds[0]!.lanes.map(({ ending }) => ending)).toEqual(["stopped", null]);
  });
});
