// Vercel's AI SDK against a running server, as its user writes it: streamed, with tools, with structured output.
// Prints one JSON object of what came back, for test_sdks.py.
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, Output, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const [url, key] = process.argv.slice(2);
const openai = createOpenAI({ baseURL: `${url}/v1`, apiKey: key });
const anthropic = createAnthropic({ baseURL: `${url}/v1`, apiKey: key });
const tools = {
  fee_of: tool({
    description: "The fee of an order.",
    inputSchema: z.object({ order: z.string() }),
    execute: async ({ order }) => `40 EUR for ${order}`,
  }),
};

async function through(model) {
  const stream = streamText({ model, prompt: "Say something" });
  let streamed = "";
  for await (const piece of stream.textStream) streamed += piece;
  const whole = await generateText({ model, prompt: "Say something" });
  const used = await generateText({ model, tools, stopWhen: stepCountIs(3), prompt: "Use the tool" });
  const calls = streamText({ model, tools, stopWhen: stepCountIs(3), prompt: "Use the tool" });
  let after = "";
  for await (const piece of calls.textStream) after += piece;
  const steps = await calls.steps;
  return {
    streamed,
    whole: whole.text,
    tokens: whole.usage.outputTokens,
    calls: used.steps.flatMap((step) => step.toolCalls.map((call) => [call.toolName, call.input])),
    streamed_calls: steps.flatMap((step) => step.toolCalls.map((call) => [call.toolName, call.input])),
    after_tool: used.text,
    streamed_after_tool: after,
  };
}

const structured = await generateText({
  model: openai.chat("smart"),
  output: Output.object({ schema: z.object({ amount: z.number(), currency: z.string() }) }),
  prompt: "As JSON",
});
console.log(
  JSON.stringify({
    chat: await through(openai.chat("smart")),
    responses: await through(openai.responses("smart")),
    anthropic: await through(anthropic("smart")),
    structured: structured.output,
  }),
);
