/**
 * What a model wrote, as Markdown with formulas, safe to show.
 *
 * Its HTML stays text: marked hands it to `html`, which escapes it. Formulas become MathML, which
 * needs neither fonts nor inline styles. DOMPurify then lets through a short list of elements.
 */

import DOMPurify, { type Config } from "dompurify";
import katex from "katex";
import { Marked, type TokenizerAndRendererExtension } from "marked";

const FORMULA_INLINE = /^(?:\\\((.+?)\\\)|\$\$([^$]+?)\$\$|\$(?!\s)((?:\\.|[^$\\\n])+?)(?<!\s)\$(?!\d))/s;
const FORMULA_BLOCK = /^(?:\\\[(.+?)\\\]|\$\$(.+?)\$\$)\s*(?:\n|$)/s;

const marked = new Marked({
  gfm: true,
  breaks: true,
  renderer: {
    html: ({ text }) => escaped(text),
    // An image would tell its host who reads this.
    image: ({ href, text }) => escaped(text || href),
  },
  extensions: [
    formula("formula", "inline", FORMULA_INLINE, /\\\(|\$/),
    formula("formulaBlock", "block", FORMULA_BLOCK, /\\\[|\$\$/),
  ],
});

const ALLOWED: Config & { RETURN_DOM_FRAGMENT: true } = {
  USE_PROFILES: { html: true, mathMl: true },
  ADD_TAGS: ["semantics", "annotation"],
  ADD_ATTR: ["encoding"],
  FORBID_TAGS: ["style", "form", "input", "button", "img", "video", "audio", "svg", "iframe"],
  FORBID_ATTR: ["style", "id", "class", "name"],
  ALLOW_DATA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

DOMPurify.addHook("afterSanitizeAttributes", (node) => {
  if (node.hasAttribute("href")) {
    node.setAttribute("target", "_blank");
    node.setAttribute("rel", "noopener noreferrer nofollow");
  }
});

export function markdown(text: string): DocumentFragment {
  return DOMPurify.sanitize(marked.parse(text, { async: false }), { ...ALLOWED });
}

function formula(name: string, level: "inline" | "block", rule: RegExp, begins: RegExp): TokenizerAndRendererExtension {
  return {
    name,
    level,
    start: (source) => {
      const at = source.search(begins);
      return at < 0 ? undefined : at;
    },
    tokenizer: (source) => {
      const match = rule.exec(source);
      const tex = match?.slice(1).find((group) => group !== undefined);
      return match && tex ? { type: name, raw: match[0], text: tex.trim() } : undefined;
    },
    renderer: (token) => mathml(String(token["text"]), level === "block", token.raw),
  };
}

function mathml(tex: string, displayMode: boolean, raw: string): string {
  try {
    const html = katex.renderToString(tex, { displayMode, output: "mathml", strict: false, maxExpand: 500 });
    // The policy forbids style attributes; quotes inside KaTeX's texts and attributes are escaped.
    return html.replace(/ style="[^"]*"/g, "");
  } catch {
    return `<code>${escaped(raw.trim())}</code>`;
  }
}

function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
