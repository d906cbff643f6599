/** Old questions, kept in this browser and nowhere else. */

import type { Run } from "./run";

const KEPT = 50;
const INDEX = "parathinker.history";
const ENTRY = "parathinker.run.";

/** What a list of old questions shows. */
export interface Remembered {
  id: string;
  question: string;
  askedAt: number;
}

/** The latest first. */
export function list(): Remembered[] {
  return read<Remembered[]>(INDEX) ?? [];
}

export function load(id: string): Run | null {
  return read<Run>(ENTRY + id);
}

/** Forgets the oldest ones if there are too many, or if the browser gives no more room. */
export function remember(run: Run): void {
  const { id, question, askedAt } = run;
  const all = [{ id, question, askedAt }, ...list().filter((other) => other.id !== id)];
  for (const old of all.splice(KEPT)) localStorage.removeItem(ENTRY + old.id);
  while (!(write(ENTRY + id, run) && write(INDEX, all))) {
    const oldest = all.pop();
    if (!oldest) return;
    localStorage.removeItem(ENTRY + oldest.id);
    if (oldest.id === id) break;
  }
  write(INDEX, all);
}

export function forget(id: string): void {
  localStorage.removeItem(ENTRY + id);
  write(INDEX, list().filter((other) => other.id !== id));
}

export function forgetAll(): void {
  for (const { id } of list()) localStorage.removeItem(ENTRY + id);
  localStorage.removeItem(INDEX);
}

function read<T>(key: string): T | null {
  try {
    return JSON.parse(localStorage.getItem(key) ?? "null") as T | null;
  } catch {
    return null;
  }
}

function write(key: string, value: unknown): boolean {
  try {
    localStorage.setItem(key, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}
