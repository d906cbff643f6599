/**
 * A scripted model behind the page: `node dev/mock.mjs [port]`.
 *
 * It serves the built page and speaks the stream of `parathinker serve`, slowly enough to watch.
 * Words in a question make it misbehave:
 *
 *   busy      429, to be tried again in two seconds
 *   refused   400
 *   breaks    an error in mid-stream
 *   vanishes  the connection closes in mid-stream
 *   hostile   paths and answer full of HTML
 *   formulas  an answer with Markdown and formulas
 *   quick     no pauses
 *   long      thousands of tokens a path
 *
 * With KEY in the environment it asks for that key.
 */

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const PAGE = fileURLToPath(new URL("../../src/parathinker/serving/page/", import.meta.url));
const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".css": "text/css",
  ".svg": "image/svg+xml",
  ".woff2": "font/woff2",
};
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; " +
  "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const MODEL = {
  id: "scripted",
  object: "model",
  parathinker: {
    max_paths: 16,
    task: null,
    chat: true,
    defaults: {
      paths: 8,
      termination: "first-finish",
      max_path_tokens: 512,
      max_summary_tokens: 128,
      temperature: 0.7,
      rounds: 1,
      show: "paths",
    },
    limits: { paths: 16, path_tokens: 4096 },
    examples: [
      "How many positive divisors does 360 have?",
      "A formulas question: what is the sum of the first n odd numbers?",
      "A hostile question",
    ],
  },
};
const WORDS = (
  "so we factor it first and then count how often each prime divides it which gives 2 cubed times 3 " +
  "squared times 5 and the exponents plus one multiply wait let me check that again by listing them " +
  "in pairs that is consistent with what was found before"
).split(" ");
const HOSTILE = '<img src=x onerror="document.title=\'owned\'"><script>document.title="owned"</script><b>bold</b>';
const FORMULAS = `The first $n$ odd numbers add up to a **square**:

\\[ \\sum_{k=1}^{n} (2k-1) = n^2 \\]

1. For \\(n = 1\\) it is $1$.
2. Adding $2n+1$ to $n^2$ gives $(n+1)^2$.

It costs $5 or $6, and \`code\` stays code. [A link](javascript:alert(1)), ![an image](http://example.com/x.png)

\\[ \\boxed{n^2} \\]`;

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

createServer((request, response) => {
  const { pathname } = new URL(request.url, "http://localhost");
  const answer = pathname === "/v1/models" ? models : pathname === "/v1/chat/completions" ? complete : file;
  answer(request, response, pathname).catch((error) => response.destroy(error));
}).listen(Number(process.argv[2] ?? 8000), "127.0.0.1", function () {
  console.log(`http://127.0.0.1:${this.address().port}/`);
});

async function file(request, response, pathname) {
  const name = join(PAGE, normalize(pathname === "/" ? "/index.html" : pathname));
  const content = await readFile(name).catch(() => null);
  if (content === null) return refuse(response, 404, "not_found", "There is no such page.");
  response.writeHead(200, { "Content-Type": TYPES[extname(name)] ?? "text/plain", "Content-Security-Policy": POLICY });
  response.end(content);
}

async function models(request, response) {
  if (!mayEnter(request, response)) return;
  response.writeHead(200, { "Content-Type": "application/json" });
  response.end(JSON.stringify({ object: "list", data: [MODEL] }));
}

async function complete(request, response) {
  if (!mayEnter(request, response)) return;
  let text = "";
  for await (const part of request) text += part;
  const body = JSON.parse(text);
  const question = body.messages.at(-1).content;
  if (/busy/.test(question)) return refuse(response, 429, "rate_limit_exceeded", "Busy.", { "Retry-After": "2" });
  if (/refused/.test(question)) return refuse(response, 400, "invalid_request_error", "paths should be 1 to 16; got 99");
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  const send = (value) => {
    if (!response.destroyed) response.write(`data: ${typeof value === "string" ? value : JSON.stringify(value)}\n\n`);
  };
  await think(body, question, send, response);
  response.end();
}

async function think(body, question, send, response) {
  const chunk = (delta, finish_reason = null, more = {}) =>
    send({
      id: "chatcmpl-scripted",
      object: "chat.completion.chunk",
      created: 0,
      model: MODEL.id,
      choices: [{ index: 0, delta, logprobs: null, finish_reason }],
      ...more,
    });
  const { thinking = {} } = body;
  const paths = thinking.paths === "auto" ? 3 : (thinking.paths ?? 8);
  const rounds = thinking.rounds ?? 1;
  const waits = !/quick/.test(question);
  const steps = /long/.test(question) ? 3000 : 90;
  const began = Date.now();
  let thought = 0;
  let said = 0;
  chunk({ role: "assistant", content: "" });
  for (let round = 1; round <= rounds; round++) {
    const event = (path, name, more = {}, text) =>
      chunk({
        ...(text === undefined ? {} : { reasoning: text, reasoning_content: text }),
        thinking: { path, round, event: name, ...more },
      });
    const ends = Array.from({ length: paths }, (_, i) => steps + ((i * 29 + round * 11) % 47));
    const last = Math.min(...ends) + (thinking.termination === "first-finish" || !thinking.termination ? 8 : 47);
    const open = new Set(ends.keys());
    for (const i of open) event(i + 1, "start");
    for (let step = 0; open.size && step < last; step++) {
      for (const i of open) {
        const over = step === ends[i];
        event(i + 1, "token", { tokens: 1 }, tokenOf(i, step, over, question));
        thought++;
        if (over) {
          event(i + 1, "end", { finish_reason: "stop" });
          open.delete(i);
        }
      }
      if (/breaks/.test(question) && step === 30)
        return send({ error: { message: "The engine ran out of memory.", type: "server_error", code: null } });
      if (/vanishes/.test(question) && step === 30) return response.destroy();
      if (response.destroyed) return;
      if (waits) await pause(30);
      else if (step % 20 === 0) await pause(0);
    }
    for (const i of open) event(i + 1, "end", { finish_reason: "cut" });
    const summary = summaryOf(question);
    for (const piece of summary.match(/\s*\S+\s*/gs)) {
      if (round < rounds) event(0, "token", { tokens: 1 }, piece);
      else chunk({ content: piece });
      said++;
      if (waits) await pause(25);
    }
    if (round < rounds) {
      event(0, "end", { finish_reason: "stop" });
      thought += said;
      said = 0;
    }
  }
  chunk({}, "stop");
  const total_s = (Date.now() - began) / 1000;
  send({
    id: "chatcmpl-scripted",
    object: "chat.completion.chunk",
    created: 0,
    model: MODEL.id,
    choices: [],
    usage: {
      prompt_tokens: 12,
      completion_tokens: thought + said,
      total_tokens: 12 + thought + said,
      completion_tokens_details: { reasoning_tokens: thought },
    },
    timings: { prefill_s: 0.02, think_s: total_s * 0.8, summary_ttft_s: 0.01, summary_s: total_s * 0.2, total_s },
  });
  send("[DONE]");
}

function tokenOf(path, step, over, question) {
  if (over) return `\nAnswer: ${path % 3 === 2 ? 25 : 24}`;
  if (/hostile/.test(question)) return `${HOSTILE}\n`;
  const word = WORDS[(step * (path + 3) + path * 7) % WORDS.length];
  return step % 17 === 16 ? `${word}.\n` : `${word} `;
}

function summaryOf(question) {
  if (/hostile/.test(question)) return `${HOSTILE}\n\nAnswer: 24`;
  if (/formulas/.test(question)) return FORMULAS;
  return "360 is $2^3 \\cdot 3^2 \\cdot 5$, and most paths count its divisors as $4 \\cdot 3 \\cdot 2$.\n\nAnswer: 24";
}

function mayEnter(request, response) {
  const { KEY } = process.env;
  if (!KEY || request.headers.authorization === `Bearer ${KEY}`) return true;
  refuse(response, 401, "invalid_api_key", "A key is needed.");
  return false;
}

function refuse(response, status, code, message, headers = {}) {
  response.writeHead(status, { "Content-Type": "application/json", ...headers });
  response.end(JSON.stringify({ error: { message, type: code, param: null, code } }));
}
