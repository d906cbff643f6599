/** The question, and how to think about it. */

import type { TargetedEvent, TargetedKeyboardEvent } from "preact";
import { useState } from "preact/hooks";

import { withoutCommonWords } from "../labels";
import type { Settings, Termination } from "../run";
import { isThinking, model, question, stop, think } from "../session";

const TERMINATIONS: [Termination, string][] = [
  ["first-finish", "the first path has"],
  ["half-finish", "half of the paths have"],
  ["last-finish", "all paths have"],
];
const EXAMPLES_SHOWN = 4;

/** What has been chosen here; what has not is undefined, and the model's default holds. */
interface Choices {
  paths?: number;
  auto?: boolean;
  termination?: Termination;
  rounds?: number;
  maxPathTokens?: string;
  temperature?: string;
  seed?: string;
}

export function AskForm() {
  const [choices, setChoices] = useState<Choices>({});
  const [open, setOpen] = useState(false);
  const change = (some: Choices): void => setChoices({ ...choices, ...some });
  const settings = settingsFrom(choices);
  const ready = model.value !== null;

  function submit(event?: Event): void {
    event?.preventDefault();
    if (ready && question.value.trim()) void think(question.value.trim(), settings);
  }
  function onKeyDown(event: TargetedKeyboardEvent<HTMLTextAreaElement>): void {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) submit(event);
  }
  return (
    <form class="ask" onSubmit={submit}>
      <label class="unseen" for="question">
        Question
      </label>
      <textarea
        id="question"
        rows={2}
        placeholder="Ask a question"
        aria-keyshortcuts="Control+Enter"
        value={question}
        onInput={(event) => (question.value = event.currentTarget.value)}
        onKeyDown={onKeyDown}
      />
      <div class="row">
        <Paths settings={settings} change={change} />
        <button
          type="button"
          class="quiet more-toggle"
          aria-expanded={open}
          aria-controls="more"
          onClick={() => setOpen(!open)}
        >
          How to think
        </button>
        <div class="go">
          <kbd aria-hidden="true">{isThinking.value ? "Esc" : "Ctrl ↵"}</kbd>
          {isThinking.value ? (
            // With keys, or the click that stops would go on to submit: by then the button is "Think".
            <button key="stop" type="button" class="main" onClick={stop}>
              Stop
            </button>
          ) : (
            <button key="think" class="main" disabled={!ready || !question.value.trim()}>
              Think
            </button>
          )}
        </div>
      </div>
      {open && <More settings={settings} choices={choices} change={change} />}
      <Examples />
    </form>
  );
}

interface Part {
  settings: Settings;
  change: (some: Choices) => void;
}

function Paths({ settings, change }: Part) {
  const auto = settings.paths === "auto";
  const value = settings.paths === "auto" ? 2 : settings.paths;
  return (
    <div class="paths">
      <label>
        <span>Paths</span>
        <input
          type="range"
          min={1}
          max={model.value?.maxPaths ?? 8}
          value={value}
          disabled={auto}
          onInput={(event) => change({ paths: event.currentTarget.valueAsNumber })}
        />
      </label>
      <output>{auto ? "auto" : value}</output>
      <label class="check" title="Begins with two, and adds paths only while their answers disagree">
        <input type="checkbox" checked={auto} onChange={(event) => change({ auto: event.currentTarget.checked })} />
        <span>auto</span>
      </label>
    </div>
  );
}

function Examples() {
  const examples = model.value?.examples.slice(0, EXAMPLES_SHOWN) ?? [];
  const labels = withoutCommonWords(examples);
  if (!examples.length) return null;
  return (
    <ul class="examples" aria-label="Examples">
      {examples.map((example, i) => (
        <li key={example}>
          <button type="button" class="chip" title={example} onClick={() => (question.value = example)}>
            {labels[i]}
          </button>
        </li>
      ))}
    </ul>
  );
}

function More({ settings, choices, change }: Part & { choices: Choices }) {
  const defaults = model.value?.defaults ?? {};
  const set =
    (name: keyof Choices) =>
    ({ currentTarget: { value } }: TargetedEvent<HTMLInputElement>): void =>
      change({ [name]: name === "rounds" ? Math.max(1, Number.parseInt(value) || 1) : value });
  return (
    <div class="more" id="more">
      <label>
        <span>Write the answer once</span>
        <select
          value={settings.termination}
          disabled={settings.paths === "auto"}
          onChange={(event) => change({ termination: event.currentTarget.value as Termination })}
        >
          {TERMINATIONS.map(([name, words]) => (
            <option key={name} value={name}>
              {words} finished
            </option>
          ))}
        </select>
      </label>
      <label>
        <span>Tokens a path</span>
        <input type="number" min={1} value={choices.maxPathTokens ?? ""} onInput={set("maxPathTokens")}
          placeholder={String(defaults.max_path_tokens ?? "default")} />
      </label>
      <label>
        <span>Temperature</span>
        <input type="number" min={0} max={2} step={0.05} value={choices.temperature ?? ""} onInput={set("temperature")}
          placeholder={String(defaults.temperature ?? "default")} />
      </label>
      <label>
        <span>Rounds</span>
        <input type="number" min={1} max={model.value?.maxRounds ?? 4} value={settings.rounds} onInput={set("rounds")} />
      </label>
      <label>
        <span>Seed</span>
        <input type="number" min={0} step={1} value={choices.seed ?? ""} onInput={set("seed")} placeholder="any" />
      </label>
    </div>
  );
}

function settingsFrom(choices: Choices): Settings {
  const defaults = model.value?.defaults ?? {};
  const auto = choices.auto ?? (choices.paths === undefined && defaults.paths === "auto");
  const paths = choices.paths ?? (typeof defaults.paths === "number" ? defaults.paths : 8);
  return {
    paths: auto ? "auto" : Math.min(paths, model.value?.maxPaths ?? paths),
    termination: choices.termination ?? defaults.termination ?? "first-finish",
    rounds: choices.rounds ?? defaults.rounds ?? 1,
    maxPathTokens: number(choices.maxPathTokens),
    temperature: number(choices.temperature),
    seed: number(choices.seed),
  };
}

function number(typed: string | undefined): number | null {
  return typed?.trim() ? Number(typed) : null;
}
