/** The whole page. */

import { useRef } from "preact/hooks";

import { announcement, modelId, models, remembered, shown, whole } from "../session";
import { switchTheme, theme } from "../theme";
import { AskForm } from "./AskForm";
import { HistoryDialog } from "./HistoryDialog";
import { KeyDialog } from "./KeyDialog";
import { RunView } from "./RunView";
import { TroubleNote } from "./TroubleNote";
import { Welcome } from "./Welcome";

export function App() {
  return (
    <>
      <Header />
      <main>
        <AskForm />
        <TroubleNote />
        <Stage />
      </main>
      <KeyDialog />
      <p class="unseen" role="status">
        {announcement}
      </p>
    </>
  );
}

function Stage() {
  const [run, complete] = [shown.value, whole.value];
  return run && complete ? <RunView run={run} whole={complete} key={run.id} /> : <Welcome />;
}

function Header() {
  const history = useRef<HTMLDialogElement>(null);
  const other = theme.value === "dark" ? "light" : "dark";
  return (
    <header>
      <h1>
        <Mark />
        ParaThinker
      </h1>
      {models.value.length === 1 && <span class="model">{modelId}</span>}
      {models.value.length > 1 && (
        <label class="model">
          <span class="unseen">Model</span>
          <select value={modelId.value} onChange={(event) => (modelId.value = event.currentTarget.value)}>
            {models.value.map(({ id }) => (
              <option key={id}>{id}</option>
            ))}
          </select>
        </label>
      )}
      <div class="tools">
        <button type="button" class="quiet" onClick={() => history.current?.showModal()}>
          History{" "}
          {remembered.value.length > 0 && <span class="count">{remembered.value.length}</span>}
        </button>
        <button type="button" class="quiet icon" onClick={switchTheme} aria-label={`Switch to ${other}`}>
          <ThemeIcon />
        </button>
      </div>
      <HistoryDialog dialog={history} />
    </header>
  );
}

function Mark() {
  return (
    <svg class="mark" viewBox="0 0 32 32" aria-hidden="true">
      <path d="M4 5c12 0 10 11 20 11" />
      <path d="M4 12.3c9 0 10 3.7 20 3.7" />
      <path d="M4 19.7c9 0 10-3.7 20-3.7" />
      <path d="M4 27c12 0 10-11 20-11" />
      <path d="M24 16h5" />
    </svg>
  );
}

function ThemeIcon() {
  return (
    <svg viewBox="0 0 20 20" aria-hidden="true">
      <circle cx="10" cy="10" r="7" fill="none" stroke="currentColor" stroke-width="1.5" />
      <path d="M10 3a7 7 0 0 1 0 14z" fill="currentColor" />
    </svg>
  );
}
