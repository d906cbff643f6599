/** Picks the round on show, where there are several. */

import type { TargetedKeyboardEvent } from "preact";

interface Props {
  count: number;
  index: number;
  pick: (index: number) => void;
}

export function RoundTabs({ count, index, pick }: Props) {
  if (count < 2) return null;
  function onKeyDown(event: TargetedKeyboardEvent<HTMLDivElement>): void {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step === undefined) return;
    const next = (index + step + count) % count;
    pick(next);
    event.currentTarget.querySelectorAll("button")[next]?.focus();
  }
  return (
    <div class="rounds" role="tablist" aria-label="Rounds" onKeyDown={onKeyDown}>
      {Array.from({ length: count }, (_, i) => (
        <button
          key={i}
          id={`round-${i}`}
          type="button"
          role="tab"
          aria-selected={i === index}
          aria-controls="round"
          tabIndex={i === index ? 0 : -1}
          onClick={() => pick(i)}
        >
          Round {i + 1}
        </button>
      ))}
    </div>
  );
}
