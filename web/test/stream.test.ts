import { describe, expect, it } from "vitest";

import { readEvents, StreamError, type ThinkingEvent } from "../src/stream";

function bodyOf(bytes: Uint8Array, size: number): ReadableStream<BufferSource> {
  let at = 0;
  return new ReadableStream({
    pull(controller) {
      if (at >= bytes.length) return controller.close();
      controller.enqueue(bytes.slice(at, (at += size)));
    },
  });
}

function body(messages: (object | string)[], size = 1_000_000): ReadableStream<BufferSource> {
  const lines = messages.map((m) => `data: ${typeof m === "string" ? m : JSON.stringify(m)}\n\n`);
  return bodyOf(new TextEncoder().encode(lines.join("")), size);
}

async function collect(stream: ReadableStream<BufferSource>): Promise<ThinkingEvent[]> {
  const events: ThinkingEvent[] = [];
  for await (const event of readEvents(stream)) events.push(event);
  return events;
}

const chunk = (delta: object, finish_reason: string | null = null) => ({ choices: [{ index: 0, delta, finish_reason }] });
const usage = { prompt_tokens: 3, completion_tokens: 9, total_tokens: 12 };
const MESSAGES = [
  chunk({ role: "assistant", content: "" }),
  chunk({ thinking: { path: 2, round: 1, event: "start" } }),
  chunk({ reasoning: "α → 𝛽", thinking: { path: 2, round: 1, event: "token", tokens: 4 } }),
  chunk({ thinking: { path: 2, round: 1, event: "end", finish_reason: "cut" } }),
  chunk({ content: "Answer: 4" }),
  chunk({}, "stop"),
  { choices: [], usage },
  "[DONE]",
];
const EVENTS = [
  { kind: "start", path: 2, round: 1 },
  { kind: "text", path: 2, round: 1, text: "α → 𝛽", tokens: 4 },
  { kind: "end", path: 2, round: 1, ending: "cut" },
  { kind: "text", path: 0, round: null, text: "Answer: 4", tokens: 0 },
  { kind: "end", path: 0, round: null, ending: "stop" },
  { kind: "usage", usage, timings: null },
];

describe("the stream", () => {
  it.each([1, 2, 3, 7, 1_000_000])("comes out the same in pieces of %i bytes", async (size) => {
    expect(await collect(body(MESSAGES, size))).toEqual(EVENTS);
  });

  it("passes over the comments that keep it awake", async () => {
    const bytes = new TextEncoder().encode(`: thinking\n\ndata: ${JSON.stringify(MESSAGES[4])}\n\ndata: [DONE]\n\n`);
    expect(await collect(bodyOf(bytes, 5))).toEqual([EVENTS[3]]);
  });

  it("tells the server's own words when an error comes in the middle", async () => {
    const broken = body([MESSAGES[1]!, { error: { message: "The engine failed." } }]);
    await expect(collect(broken)).rejects.toThrow(new StreamError("The engine failed."));
  });

  it("is an error when it ends without saying so", async () => {
    await expect(collect(body(MESSAGES.slice(0, 3)))).rejects.toThrow(StreamError);
  });
});
