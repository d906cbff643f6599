/** Questions asked before in this browser. */

import type { RefObject } from "preact";

import { forget, forgetAll, remembered, reopen } from "../session";

const WHEN = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

export function HistoryDialog({ dialog }: { dialog: RefObject<HTMLDialogElement | null> }) {
  const close = (): void => dialog.current?.close();
  function open(id: string): void {
    reopen(id);
    close();
  }
  return (
    <dialog ref={dialog} class="history" aria-labelledby="history-title">
      <div class="head">
        <h2 id="history-title">History</h2>
        <button type="button" class="quiet" onClick={close}>
          Close
        </button>
      </div>
      {remembered.value.length === 0 ? (
        <p class="note">Nothing yet. Questions and answers stay in this browser; the last 50 are kept.</p>
      ) : (
        <>
          <ul>
            {remembered.value.map(({ id, question, askedAt }) => (
              <li key={id}>
                <button type="button" class="open" onClick={() => open(id)}>
                  <span class="question">{question}</span>
                  <time>{WHEN.format(askedAt)}</time>
                </button>
                <button type="button" class="quiet" aria-label={`Delete: ${question}`} onClick={() => forget(id)}>
                  Delete
                </button>
              </li>
            ))}
          </ul>
          <div class="actions">
            <p class="note">Kept in this browser only.</p>
            <button type="button" class="quiet" onClick={forgetAll}>
              Delete all
            </button>
          </div>
        </>
      )}
    </dialog>
  );
}
