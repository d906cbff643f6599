/** Light or dark: as the system has it, until somebody chooses here. */

import { effect, signal } from "@preact/signals";

export type Theme = "light" | "dark";

const CHOICE = "parathinker.theme";
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const systems = (): Theme => (dark.matches ? "dark" : "light");
const chosen = (): Theme | null => localStorage.getItem(CHOICE) as Theme | null;

export const theme = signal<Theme>(chosen() ?? systems());

export function followTheme(): void {
  effect(() => {
    document.documentElement.dataset["theme"] = theme.value;
  });
  dark.addEventListener("change", () => {
    if (!chosen()) theme.value = systems();
  });
}

export function switchTheme(): void {
  theme.value = theme.value === "dark" ? "light" : "dark";
  localStorage.setItem(CHOICE, theme.value);
}
