/** Where the page begins. */

import { render } from "preact";

import "./styles/base.css";
import "./styles/ask.css";
import "./styles/run.css";
import "./styles/timeline.css";
import { start, stop } from "./session";
import { followTheme } from "./theme";
import { App } from "./ui/App";

followTheme();
render(<App />, document.body);
void start();

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !document.querySelector("dialog[open]")) stop();
});
