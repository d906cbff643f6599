/** The server's stream, from bytes to events that say which path they belong to. */

import { EventSourceParserStream } from "eventsource-parser/stream";

export type Ending = "stop" | "length" | "cut";

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  completion_tokens_details?: { reasoning_tokens?: number };
}

export interface Timings {
  prefill_s: number;
  think_s: number;
  summary_ttft_s: number;
  summary_s: number;
  total_s: number;
}

/** Path 0 is a round's summary; `round` is null where it is the last one, whichever that is. */
export type ThinkingEvent =
  | { kind: "start"; path: number; round: number | null }
  | { kind: "text"; path: number; round: number | null; text: string; tokens: number }
  | { kind: "end"; path: number; round: number | null; ending: Ending }
  | { kind: "usage"; usage: Usage; timings: Timings | null };

/** The stream broke, or said that something went wrong. */
export class StreamError extends Error {}

interface Delta {
  content?: string | null;
  reasoning?: string | null;
  thinking?: { path: number; round: number; event: string; tokens?: number; finish_reason?: Ending };
}

interface Chunk {
  choices?: { delta?: Delta; finish_reason?: Ending | null }[];
  usage?: Usage | null;
  timings?: Timings | null;
  error?: { message?: string };
}

/** The events of a response's body, until it says `[DONE]`. */
export async function* readEvents(body: ReadableStream<BufferSource>): AsyncGenerator<ThinkingEvent> {
  const messages = body
    .pipeThrough(new TextDecoderStream())
    .pipeThrough(new EventSourceParserStream())
    .getReader();
  try {
    for (;;) {
      const { done, value } = await messages.read();
      if (done) throw new StreamError("The connection broke before the answer was complete.");
      if (value.data === "[DONE]") return;
      yield* eventsOf(parse(value.data));
    }
  } finally {
    // Tells the server to stop, too, where the reader leaves early.
    await messages.cancel().catch(() => undefined);
  }
}

function parse(data: string): Chunk {
  try {
    return JSON.parse(data) as Chunk;
  } catch {
    throw new StreamError("The server sent something that this page cannot read.");
  }
}

function* eventsOf(chunk: Chunk): Generator<ThinkingEvent> {
  if (chunk.error) throw new StreamError(chunk.error.message ?? "The server gave up, without a reason.");
  const choice = chunk.choices?.[0];
  const delta = choice?.delta;
  if (delta?.thinking) {
    const { path, round, event, tokens = 0, finish_reason = "stop" } = delta.thinking;
    if (event === "start") yield { kind: "start", path, round };
    else if (event === "end") yield { kind: "end", path, round, ending: finish_reason };
    else yield { kind: "text", path, round, text: delta.reasoning ?? "", tokens };
  } else if (delta?.content) {
    yield { kind: "text", path: 0, round: null, text: delta.content, tokens: 0 };
  }
  if (choice?.finish_reason) yield { kind: "end", path: 0, round: null, ending: choice.finish_reason };
  if (chunk.usage) yield { kind: "usage", usage: chunk.usage, timings: chunk.timings ?? null };
}
