// Recorded calls made again through the Vercel AI SDK: `node vercel_again.mjs VERSION CALLS OUT`.
// CALLS has one call a line, as vercel.py plans it. Each is in a trace of its own; OUT tells which, and its end.
import { createWriteStream, readFileSync } from 'node:fs';
import { ROOT_CONTEXT, context, trace } from '@opentelemetry/api';
import * as ai from 'ai';
import { start } from './telemetry.mjs';

const [version, calls, out] = process.argv.slice(2);
const provider = await start(version);
const traced = version.startsWith('7') ? {} : { experimental_telemetry: { isEnabled: true } };
const common = { maxRetries: 0, ...traced };
const prompt = 'Where is the shelf?';
const now = () => Date.now() * 1_000_000;

async function make({ id, url, path, module, create, settings, method, model, kind, stream }) {
  // Whatever host and path: the answer is the recorded one.
  const send = (_, options) => fetch(`${url}/~${id}${path}`, options);
  const made = (await import(module))[create]({ ...settings, ...keys(create), fetch: send });
  if (kind === 'embed') {
    const known = made.embeddingModel ?? made.textEmbeddingModel;
    return () => ai.embed({ model: known.call(made, model), value: prompt, ...common });
  }
  if (method && typeof made[method] !== 'function') return null;
  const asked = { model: method ? made[method](model) : made(model), prompt, ...common };
  if (!stream) return () => ai.generateText(asked);
  return async () => {
    let failed;
    for await (const part of ai.streamText({ ...asked, onError: () => {} }).fullStream) {
      if (part.type === 'error') failed = part.error;
    }
    if (failed) throw failed;
  };
}

function keys(create) {
  if (create === 'createAmazonBedrock') return { region: 'us-east-1', accessKeyId: 'AKIANONE', secretAccessKey: 'none' };
  // A client of Google's that has its token already.
  const authClient = { getAccessToken: async () => ({ token: 'none' }) };
  // Version 4 asks for the usage of streams in its strict mode only.
  return create === 'createVertex' ? { googleAuthOptions: { authClient } } : { apiKey: 'none', compatibility: 'strict' };
}

const lines = createWriteStream(out);
for (const line of readFileSync(calls, 'utf8').split('\n').filter(Boolean)) {
  const call = JSON.parse(line);
  const told = { id: call.id };
  const action = call.skipped ? null : await make(call);
  await context.with(ROOT_CONTEXT, () =>
    trace.getTracer('shop').startActiveSpan('POST /shop', async (span) => {
      Object.assign(told, { trace: span.spanContext().traceId, from: now() });
      try {
        if (action) await action();
        else told.skipped = call.skipped ?? 'this version has no such method';
      } catch (error) {
        told.raised = `${error?.name}: ${error?.message ?? error}`.slice(0, 300);
      }
      span.end();
    }),
  );
  lines.write(`${JSON.stringify({ ...told, to: now() })}\n`);
}
await new Promise((done) => lines.end(done));
await provider.forceFlush();
await provider.shutdown();
