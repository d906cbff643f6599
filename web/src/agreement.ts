/** What a text gives as its final answer, and which paths give the same one as the summary. */

import type { Round, Strand } from "./run";

const ANSWER_LINE = /^[\s*_#>]*(?:the\s+)?(?:final\s+)?answer\s*(?:[*_]*\s*[:=]|\s+is\b:?)[*_\s]*(\S.*)$/i;

/**
 * The last `\boxed{…}`, else the last line like "Answer: 42"; null if the text gives none. An answer
 * line counts in a text that broke off only once a further line has begun.
 */
export function finalAnswer(text: string, complete: boolean): string | null {
  const boxed = lastBoxed(text);
  if (boxed !== null) return boxed;
  const lines = text.split("\n");
  if (!complete) lines.pop();
  for (const line of lines.reverse()) {
    const answer = ANSWER_LINE.exec(line)?.[1];
    if (answer) return answer.replace(/[*_\s]+$/, "");
  }
  return null;
}

function lastBoxed(text: string): string | null {
  const opening = "\\boxed{";
  const from = text.lastIndexOf(opening);
  if (from < 0) return null;
  let depth = 1;
  for (let i = from + opening.length; i < text.length; i++) {
    if (text[i] === "{") depth++;
    if (text[i] === "}" && --depth === 0) return text.slice(from + opening.length, i).trim();
  }
  return null;
}

/** Answers that are only written differently come out the same. */
export function plain(answer: string): string {
  const bare = answer
    .replace(/\\text(?:bf|rm)?\{([^{}]*)\}/g, "$1")
    .replace(/\\[()[\],;! ]|[$*\s]/g, "")
    .replace(/\{(.)\}/g, "$1")
    .replace(/[.]$/, "")
    .toLowerCase();
  const number = bare.replace(/(?<=\d),(?=\d{3}(?!\d))/g, "");
  if (!/^[+-]?\d+(\.\d+)?$/.test(number)) return bare;
  return number.replace(/^\+/, "").replace(/^(-?)0+(?=\d)/, "$1").replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "");
}

export interface Agreement {
  /** As the summary writes it. */
  answer: string;
  same: number[];
  other: number[];
  /** Paths in which no final answer can be told. */
  none: number[];
}

/** Null as long as no final answer can be told of the summary. */
export function agreementIn(round: Round): Agreement | null {
  if (round.summary.end === null) return null;
  const answer = answerOf(round.summary);
  if (answer === null) return null;
  const found: Agreement = { answer, same: [], other: [], none: [] };
  for (const lane of round.lanes) {
    const said = answerOf(lane);
    if (said === null) found.none.push(lane.path);
    else (plain(said) === plain(answer) ? found.same : found.other).push(lane.path);
  }
  return found;
}

/** What a path or a summary that has ended gives as its answer. */
export function answerOf(strand: Strand): string | null {
  return strand.end === null ? null : finalAnswer(strand.text, strand.ending === "stop");
}
