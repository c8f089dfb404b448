// An application on the Vercel AI SDK: `node vercel.mjs URL VERSION` makes the calls. VERSION is 7, 7-legacy, 6, 5 or 4.
import { createAnthropic } from '@ai-sdk/anthropic';
import { createOpenAI } from '@ai-sdk/openai';
import * as ai from 'ai';
import { z } from 'zod';
import { start } from './telemetry.mjs';

const [url, version] = process.argv.slice(2);
const provider = await start(version);
const openai = createOpenAI({ baseURL: `${url}/v1`, apiKey: 'k', compatibility: 'strict' });
// The API says `citations: null` at times, which this library takes for an invalid answer.
const fetchPlain = async (...request) => {
  const answer = await fetch(...request);
  return new Response((await answer.text()).replaceAll('"citations":null', '"citations":[]'), answer);
};
const anthropic = createAnthropic({ baseURL: `${url}/v1`, apiKey: 'k', fetch: fetchPlain });
const traced = { experimental_telemetry: { isEnabled: true } };
const long = 'The warehouse has twelve aisles and every aisle has a number. '.repeat(80);
const prompt = 'Where is the shelf?';
const gpt = openai.chat('gpt-4o');

await ai.generateText({ model: gpt, prompt, ...traced });
const system = version.startsWith('7') ? { instructions: long } : { system: long };
await ai.generateText({ model: gpt, ...system, prompt, ...traced });
await ai.generateText({ model: openai.chat('o4-mini'), prompt, ...traced });
await ai.generateText({ model: openai.responses('gpt-4o'), prompt, ...traced });
for await (const _ of ai.streamText({ model: gpt, prompt, ...traced }).textStream);
// Two steps: the model asks for the tool, and answers.
const parameters = z.object({ aisle: z.number() });
const shelf = ai.tool({
  description: 'Where it is.',
  parameters,
  inputSchema: parameters,
  execute: async ({ aisle }) => `Aisle ${aisle}`,
});
const steps = version === '4' ? { maxSteps: 2 } : { stopWhen: (ai.isStepCount ?? ai.stepCountIs)(2) };
await ai.generateText({ model: gpt, prompt, tools: { shelf }, ...steps, ...traced });
const embedding = version === '4' ? openai.embedding : (openai.embedding ?? openai.textEmbedding);
await ai.embed({ model: embedding('text-embedding-3-small'), value: prompt, ...traced });
const cached = { anthropic: { cacheControl: { type: 'ephemeral' } } };
for (let time = 0; time < 2; time += 1) {
  const content = [{ type: 'text', text: long, providerOptions: cached }, { type: 'text', text: prompt }];
  await ai.generateText({ model: anthropic('claude-sonnet-4-5'), messages: [{ role: 'user', content }], ...traced });
}
await provider.forceFlush();
await provider.shutdown();
