// An app's citations as the user of Vercel's AI SDK gets them, in each dialect that it speaks.
// Prints one JSON object of what came, for test_sdks.py.
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, streamText } from "ai";

const [url, key] = process.argv.slice(2);
const openai = createOpenAI({ baseURL: `${url}/v1`, apiKey: key });
const anthropic = createAnthropic({ baseURL: `${url}/v1`, apiKey: key });
const prompt = "What does a rush order cost?";

async function through(model) {
  const whole = await generateText({ model, prompt, maxRetries: 0 });
  const stream = streamText({ model, prompt, maxRetries: 0, onError: () => {} });
  const seen = { text: whole.text, cited: whole.sources.map((source) => source.title), streamed: "", error: "" };
  for await (const part of stream.fullStream) {
    if (part.type === "text-delta") seen.streamed += part.text;
    if (part.type === "error") seen.error = part.error.message ?? JSON.stringify(part.error);
  }
  seen.streamed_cited = seen.error ? [] : (await stream.sources).map((source) => source.title);
  return seen;
}

console.log(
  JSON.stringify({
    chat: await through(openai.chat("helpdesk")),
    responses: await through(openai.responses("helpdesk")),
    anthropic: await through(anthropic("helpdesk")),
  }),
);
