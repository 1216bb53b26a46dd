// Vercel's AI SDK while an engine dies under its stream, for each contract of a route and each dialect that it speaks.
// Prints one JSON object of what came, for test_sdks_cut.py.
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, streamText } from "ai";

const [url, key] = process.argv.slice(2);
const openai = createOpenAI({ baseURL: `${url}/v1`, apiKey: key });
const anthropic = createAnthropic({ baseURL: `${url}/v1`, apiKey: key });
const prompt = "Tell the story";
const models = {
  chat: (route) => openai.chat(route),
  responses: (route) => openai.responses(route),
  anthropic: (route) => anthropic(route),
};

async function watched(model) {
  const seen = { text: "", error: "", finish: "", whole: "" };
  const stream = streamText({ model, prompt, maxRetries: 0, onError: () => {} });
  for await (const part of stream.fullStream) {
    if (part.type === "text-delta") seen.text += part.text;
    if (part.type === "error") seen.error = part.error.message ?? JSON.stringify(part.error);
    if (part.type === "finish") seen.finish = part.finishReason;
  }
  return seen;
}

const found = {};
for (const contract of ["error", "continue", "restart"]) {
  for (const [dialect, model] of Object.entries(models)) {
    const route = `${contract}-vercel-${dialect}`;
    const seen = await watched(model(route));
    seen.whole = (await generateText({ model: model(route), prompt, maxRetries: 0 })).text;
    found[`${contract}-${dialect}`] = seen;
  }
}
console.log(JSON.stringify(found));
