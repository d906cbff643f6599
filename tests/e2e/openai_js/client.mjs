// OpenAI's own client for JavaScript, unchanged, against a server with the embedded model.
// Run: node client.mjs http://127.0.0.1:8000 [KEY]; prints a line for each thing that works.

import assert from "node:assert/strict";
import OpenAI from "openai";

const [address, apiKey = "none"] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${address}/v1`, apiKey, maxRetries: 0, timeout: 60_000 });
const messages = [{ role: "user", content: "What is 48213 * 7689?" }];
const asked = { model: "tiny", messages, seed: 7, thinking: { paths: 2 } };
const ask = (more) => client.chat.completions.create({ ...asked, ...more });

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

const deltas = (chunks) => chunks.flatMap((c) => c.choices.map((choice) => choice.delta));
const text = (chunks) => deltas(chunks).map((delta) => delta.content ?? "").join("");

const checks = {
  async "models are listed and found"() {
    const listed = [];
    for await (const model of client.models.list()) listed.push(model.id);
    assert.deepEqual(listed, ["tiny"]);
    assert.equal((await client.models.retrieve("tiny")).id, "tiny");
  },

  async "an answer comes with reasoning and usage"() {
    const answer = await ask();
    const [choice] = answer.choices;
    assert.match(choice.message.content, /^Answer/);
    assert.match(choice.message.reasoning, /^\[path 1\]\n/);
    assert.equal(choice.message.reasoning_content, choice.message.reasoning);
    assert.equal(choice.message.thinking.rounds[0].paths.length, 2);
    assert.equal(choice.finish_reason, "stop");
    const { prompt_tokens, completion_tokens, total_tokens } = answer.usage;
    assert.equal(total_tokens, prompt_tokens + completion_tokens);
    assert.ok(answer.usage.completion_tokens_details.reasoning_tokens > 100);
  },

  async "a stream says the same, path by path, with its usage at the end"() {
    const whole = await ask();
    const chunks = await collect(await ask({ stream: true, stream_options: { include_usage: true } }));
    assert.equal(text(chunks), whole.choices[0].message.content);
    const thought = { 1: "", 2: "" };
    for (const delta of deltas(chunks)) {
      if (delta.thinking) thought[delta.thinking.path] += delta.reasoning ?? "";
    }
    for (const path of whole.choices[0].message.thinking.rounds[0].paths) {
      assert.equal(thought[path.path], path.text);
    }
    const last = chunks.at(-1);
    assert.deepEqual(last.choices, []);
    assert.equal(last.usage.completion_tokens, whole.usage.completion_tokens);
    assert.equal(chunks.at(-2).choices[0].finish_reason, "stop");
  },

  async "the client's own helper puts a stream together"() {
    const whole = await ask();
    const final = await client.chat.completions.stream(asked).finalChatCompletion();
    assert.equal(final.choices[0].message.content, whole.choices[0].message.content);
  },

  async "n answers have the seeds that follow"() {
    const { choices } = await ask({ n: 2 });
    assert.deepEqual(choices.map((choice) => choice.index), [0, 1]);
    const alone = await ask({ seed: 8 });
    assert.equal(choices[1].message.reasoning, alone.choices[0].message.reasoning);
    const chunks = await collect(await ask({ n: 2, stream: true }));
    assert.deepEqual([...new Set(chunks.map((c) => c.choices[0].index))].sort(), [0, 1]);
  },

  async "the same seed gives the same answer"() {
    const [one, two] = [await ask(), await ask()];
    assert.equal(one.choices[0].message.reasoning, two.choices[0].message.reasoning);
  },

  async "a stop text ends the answer"() {
    const { content } = (await ask()).choices[0].message;
    const stop = content.slice(-4, -2);
    const cut = (await ask({ stop })).choices[0];
    assert.equal(cut.message.content, content.slice(0, content.indexOf(stop)).trim());
    assert.equal(cut.finish_reason, "stop");
  },

  async "max_completion_tokens limits the answer"() {
    const [choice] = (await ask({ max_completion_tokens: 3 })).choices;
    assert.equal(choice.finish_reason, "length");
  },

  async "temperature and top_p are taken"() {
    const [choice] = (await ask({ temperature: 0, top_p: 0.9 })).choices;
    assert.match(choice.message.content, /^Answer/);
  },

  async "logprobs are in OpenAI's shape"() {
    const [choice] = (await ask({ logprobs: true, top_logprobs: 2 })).choices;
    const said = choice.logprobs.content.map((one) => one.token).join("");
    assert.equal(said.trim(), choice.message.content);
    assert.ok(choice.logprobs.content.every((one) => one.top_logprobs.length === 2));
  },

  async "text completions work, streamed and not"() {
    const body = { model: "tiny", prompt: messages[0].content, seed: 7 };
    const whole = await client.completions.create(body);
    const chunks = await collect(await client.completions.create({ ...body, stream: true }));
    assert.equal(chunks.map((c) => c.choices[0].text).join(""), whole.choices[0].text);
  },

  async "errors are the client's own"() {
    await assert.rejects(ask({ model: "other" }), (error) => {
      assert.ok(error instanceof OpenAI.NotFoundError);
      assert.equal(error.code, "model_not_found");
      return true;
    });
    await assert.rejects(ask({ tools: [] }), (error) => {
      assert.ok(error instanceof OpenAI.BadRequestError);
      assert.equal(error.param, "tools");
      return true;
    });
    const stranger = new OpenAI({ baseURL: `${address}/v1`, apiKey: "wrong", maxRetries: 0 });
    await assert.rejects(async () => stranger.models.list(), OpenAI.AuthenticationError);
  },

  async "a stream that is left is forgotten"() {
    const thinking = { paths: 16, rounds: 4, termination: "last-finish" };
    const stream = await ask({ stream: true, n: 8, thinking });
    for await (const _ of stream) break;
    assert.match((await ask()).choices[0].message.content, /^Answer/);
  },
};

for (const [name, check] of Object.entries(checks)) {
  await check();
  console.log(`ok: ${name}`);
}
