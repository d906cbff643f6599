/** What went wrong, in plain words, and a way to go on. */

import { trouble } from "../session";
import { useClock } from "./hooks";

export function TroubleNote() {
  const now = useClock(trouble.value?.retryAt ?? null);
  if (!trouble.value) return null;
  const { message, retryAt, retry } = trouble.value;
  const wait = retryAt === null ? 0 : Math.ceil((retryAt - now) / 1000);
  return (
    <div class="trouble">
      <p>
        {message}
        {retryAt !== null && (wait > 0 ? ` Try again in ${wait} s.` : " It may have room now.")}
      </p>
      {retry && (
        <button type="button" disabled={wait > 0} onClick={retry}>
          Try again
        </button>
      )}
    </div>
  );
}
