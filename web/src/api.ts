/** Asking the server, and what to tell people when it refuses. */

import type { Settings, Termination } from "./run";

export interface Model {
  id: string;
  maxPaths: number;
  maxRounds: number;
  defaults: Partial<{
    paths: number | "auto";
    termination: Termination;
    max_path_tokens: number;
    temperature: number;
    rounds: number;
  }>;
  examples: string[];
}

/** The server said no, or nothing at all; `message` is for people. */
export class Refused extends Error {
  constructor(
    message: string,
    /** The HTTP status; 0 if there was no answer. */
    readonly status: number,
    readonly retryAfterSeconds: number | null = null,
  ) {
    super(message);
  }
}

const SECRET = "parathinker.key";

/** Kept until the tab is closed. */
export const apiKey = {
  get: (): string => sessionStorage.getItem(SECRET) ?? "",
  set: (key: string): void => sessionStorage.setItem(SECRET, key.trim()),
};

export async function getModels(): Promise<Model[]> {
  const response = await request("v1/models", {});
  const list = (await response.json()) as { data: { id: string; parathinker?: Described }[] };
  return list.data.map(({ id, parathinker: about }) => ({
    id,
    maxRounds: about?.limits?.rounds ?? 4,
    maxPaths: Math.min(about?.max_paths ?? 8, about?.limits?.paths ?? Infinity),
    defaults: about?.defaults ?? {},
    examples: about?.examples ?? [],
  }));
}

interface Described {
  max_paths?: number;
  limits?: { paths?: number | null; rounds?: number | null };
  defaults?: Model["defaults"];
  examples?: string[];
}

export async function ask(
  model: string,
  question: string,
  settings: Settings,
  signal: AbortSignal,
): Promise<ReadableStream<BufferSource>> {
  const body = {
    model,
    messages: [{ role: "user", content: question }],
    stream: true,
    stream_options: { include_usage: true },
    ...given({ temperature: settings.temperature, seed: settings.seed }),
    thinking: {
      paths: settings.paths,
      // Paths that are added on demand all run to their end.
      ...(settings.paths === "auto" ? {} : { termination: settings.termination }),
      rounds: settings.rounds,
      show: "paths",
      ...given({ max_path_tokens: settings.maxPathTokens }),
    },
  };
  const response = await request("v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });
  return response.body ?? new ReadableStream();
}

function given(fields: Record<string, number | null>): Record<string, number> {
  return Object.fromEntries(
    Object.entries(fields).filter((entry): entry is [string, number] => entry[1] !== null),
  );
}

async function request(path: string, init: RequestInit): Promise<Response> {
  const headers = new Headers(init.headers);
  if (apiKey.get()) headers.set("Authorization", `Bearer ${apiKey.get()}`);
  let response: Response;
  try {
    response = await fetch(path, { ...init, headers });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new Refused("The server does not answer. Is it still running?", 0);
  }
  if (response.ok) return response;
  const wait = Number.parseFloat(response.headers.get("Retry-After") ?? "");
  const said = await reasonGiven(response);
  throw new Refused(inWords(response.status, said), response.status, wait >= 0 ? wait : null);
}

async function reasonGiven(response: Response): Promise<string | null> {
  try {
    const body = (await response.json()) as { error?: { message?: string } };
    return body.error?.message ?? null;
  } catch {
    return null;
  }
}

function inWords(status: number, said: string | null): string {
  switch (status) {
    case 401:
      return "This server asks for a key.";
    case 429:
      return "The server has its hands full with other questions.";
    case 503:
      return said ?? "The server is not ready.";
    case 504:
      return said ?? "The server ran out of the time it allows for a question.";
    default:
      return said ?? `The server refused, with status ${status} and no reason.`;
  }
}
