/** What the page is at: the model, the question being asked, old ones, and what went wrong. */

import { batch, computed, signal } from "@preact/signals";

import { agreementIn } from "./agreement";
import { ask, getModels, Refused, type Model } from "./api";
import * as history from "./history";
import { apply, close, newRun, runAt, type Run, type Settings } from "./run";
import { readEvents, StreamError } from "./stream";

export interface Trouble {
  message: string;
  /** When to try again, in milliseconds since 1970. */
  retryAt: number | null;
  retry: (() => void) | null;
}

export const models = signal<Model[]>([]);
export const modelId = signal("");
export const model = computed(() => models.value.find(({ id }) => id === modelId.value) ?? null);

/** The run on show; it changes in place, and `frame` says that it did. */
const run = signal<Run | null>(null);
const frame = signal(0);
/** Seconds after the question that the run is shown at; null shows it as it is. */
export const moment = signal<number | null>(null);
/** A fresh object each frame, so that whoever shows it sees that it changed. */
export const whole = computed((): Run | null => {
  frame.value;
  return run.value && { ...run.value };
});
export const shown = computed((): Run | null =>
  whole.value && moment.value !== null ? runAt(whole.value, moment.value) : whole.value,
);

export const isThinking = signal(false);
export const trouble = signal<Trouble | null>(null);
export const wantsKey = signal(false);
export const remembered = signal(history.list());
export const question = signal("");
/** For screen readers: a few sentences a question, not a running commentary. */
export const announcement = signal("");

let asked: AbortController | null = null;
let retrying: ReturnType<typeof setTimeout> | undefined;
let afterKey: () => void = () => undefined;

export async function start(): Promise<void> {
  clearTimeout(retrying);
  try {
    const found = await getModels();
    batch(() => {
      models.value = found;
      if (!found.some(({ id }) => id === modelId.value)) modelId.value = found[0]?.id ?? "";
      trouble.value = null;
    });
  } catch (error) {
    meet(error, () => void start());
    // A model that is still loading will be there in a moment; a server that is away may come back.
    if (error instanceof Refused && [0, 503].includes(error.status)) {
      retrying = setTimeout(() => void start(), 2000);
    }
  }
}

export async function think(text: string, settings: Settings): Promise<void> {
  stop();
  const current = newRun(text, modelId.value, settings);
  const controller = (asked = new AbortController());
  const began = performance.now();
  const clock = (): number => (performance.now() - began) / 1000;
  batch(() => {
    run.value = current;
    moment.value = null;
    trouble.value = null;
    isThinking.value = true;
    announcement.value = `Asked. ${thinkers(settings)} thinking.`;
  });
  const ticking = setInterval(() => {
    current.seconds = clock();
    showNextFrame();
  }, 100);
  try {
    const body = await ask(current.model, text, settings, controller.signal);
    for await (const event of readEvents(body)) {
      if (controller.signal.aborted) break;
      apply(current, event, clock());
      if (event.kind === "end" && event.path !== 0) announceFirst(current, event.path);
      showNextFrame();
    }
    close(current, controller.signal.aborted ? "stopped" : "done", clock());
  } catch (error) {
    const stopped = controller.signal.aborted;
    close(current, stopped ? "stopped" : "failed", clock());
    if (!stopped && run.value === current) meet(error, () => void think(text, settings));
  } finally {
    clearInterval(ticking);
    if (asked === controller) {
      asked = null;
      isThinking.value = false;
    }
    showNextFrame();
    announceEnd(current);
    if (current.rounds.some(({ lanes }) => lanes.some(({ text }) => text))) {
      history.remember(current);
      remembered.value = history.list();
    }
  }
}

export function stop(): void {
  asked?.abort();
}

/** With a key that was just given, goes on with what asked for it. */
export function goOnWithKey(): void {
  wantsKey.value = false;
  afterKey();
}

export function reopen(id: string): void {
  const old = history.load(id);
  if (!old) return;
  stop();
  batch(() => {
    run.value = old;
    moment.value = null;
    trouble.value = null;
    question.value = old.question;
    announcement.value = "An old answer is open.";
  });
}

export function forget(id: string): void {
  history.forget(id);
  remembered.value = history.list();
}

export function forgetAll(): void {
  history.forgetAll();
  remembered.value = [];
}

let waiting = false;

/** However many events come, the page is drawn once a frame. */
function showNextFrame(): void {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    frame.value++;
  });
}

function meet(error: unknown, retry: () => void): void {
  if (error instanceof Refused && error.status === 401) {
    afterKey = retry;
    wantsKey.value = true;
    return;
  }
  const known = error instanceof Refused || error instanceof StreamError;
  const wait = error instanceof Refused ? error.retryAfterSeconds : null;
  trouble.value = {
    message: known ? error.message : "The connection broke before the answer was complete.",
    retryAt: wait === null ? null : Date.now() + wait * 1000,
    retry,
  };
  announcement.value = trouble.value.message;
}

function thinkers({ paths }: Settings): string {
  if (paths === "auto") return "Paths are";
  return paths === 1 ? "One path is" : `${paths} paths are`;
}

function announceFirst(current: Run, path: number): void {
  const round = current.rounds.at(-1);
  if (round?.first !== path || round.lanes.filter((lane) => lane.ending === "stop").length > 1) return;
  announcement.value = `Path ${path} finished first, after ${round.lanes[path - 1]?.tokens} tokens.`;
}

function announceEnd(current: Run): void {
  const round = current.rounds.at(-1);
  if (current.state === "stopped") announcement.value = "Stopped.";
  if (current.state !== "done" || !round) return;
  const same = agreementIn(round)?.same.length;
  const agreeing = same === undefined ? "" : ` ${same} of ${round.lanes.length} paths say the same answer.`;
  announcement.value = `The answer: ${round.summary.text.trim().slice(0, 300)}${agreeing}`;
}
