/** Asks for the server's key. */

import type { TargetedSubmitEvent } from "preact";
import { useEffect, useRef } from "preact/hooks";

import { apiKey } from "../api";
import { goOnWithKey, wantsKey } from "../session";

export function KeyDialog() {
  const dialog = useRef<HTMLDialogElement>(null);
  const wanted = wantsKey.value;
  useEffect(() => {
    if (wanted) dialog.current?.showModal();
  }, [wanted]);

  function submit(event: TargetedSubmitEvent<HTMLFormElement>): void {
    event.preventDefault();
    apiKey.set(String(new FormData(event.currentTarget).get("key") ?? ""));
    event.currentTarget.reset();
    dialog.current?.close();
    goOnWithKey();
  }
  return (
    <dialog ref={dialog} class="key" aria-labelledby="key-title" onClose={() => (wantsKey.value = false)}>
      <form onSubmit={submit}>
        <h2 id="key-title">{apiKey.get() ? "The server does not know this key" : "This server asks for a key"}</h2>
        <label>
          <span>Key</span>
          <input name="key" type="password" autocomplete="off" required />
        </label>
        <p class="note">It stays in this tab, until you close it.</p>
        <div class="actions">
          <button type="button" class="quiet" onClick={() => dialog.current?.close()}>
            Cancel
          </button>
          <button class="main">Go on</button>
        </div>
      </form>
    </dialog>
  );
}
