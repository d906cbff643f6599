/**
 * Text that grows at its end, many times a second, in a box that scrolls along until the reader
 * scrolls up.
 *
 * It is written into text nodes past Preact, and cut into blocks, so that a frame costs what is new
 * in it, however long the text already is.
 */

import { useLayoutEffect, useRef } from "preact/hooks";

const BLOCK = 1500;
const NEAR_END = 24;

export function GrowingText({ text, label }: { text: string; label: string }) {
  const ref = useRef<HTMLDivElement>(null);
  const length = useRef(0);
  const follows = useRef(true);

  useLayoutEffect(() => {
    const box = ref.current;
    if (!box || text.length === length.current) return;
    if (text.length < length.current) {
      box.replaceChildren();
      length.current = 0;
    }
    append(box, text.slice(length.current));
    length.current = text.length;
    if (follows.current) scrollLater(box);
  }, [text]);

  function onScroll(): void {
    const box = ref.current;
    if (box) follows.current = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_END;
  }
  return <div ref={ref} class="text" tabIndex={0} role="group" aria-label={label} onScroll={onScroll} />;
}

function append(box: HTMLElement, text: string): void {
  const block = box.lastElementChild?.firstChild as Text | null | undefined;
  if (!block?.length) return begin(box, text.trimStart());
  if (block.length < BLOCK) return block.appendData(text);
  // Only at a line's end does a new block look like the same text.
  const end = text.indexOf("\n");
  if (end < 0) return block.appendData(text);
  block.appendData(text.slice(0, end));
  newBlock(box, text.slice(end + 1));
}

function begin(box: HTMLElement, text: string): void {
  box.replaceChildren();
  if (text) newBlock(box, text);
}

function newBlock(box: HTMLElement, text: string): void {
  const block = document.createElement("div");
  block.append(document.createTextNode(text));
  box.append(block);
}

const toScroll = new Set<HTMLElement>();

/** After all boxes have been written to: then the browser lays the page out once, not once a box. */
function scrollLater(box: HTMLElement): void {
  if (toScroll.size === 0) {
    queueMicrotask(() => {
      for (const element of toScroll) element.scrollTop = element.scrollHeight;
      toScroll.clear();
    });
  }
  toScroll.add(box);
}
