// What an application on the Vercel AI SDK sets up to have its spans exported.
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BatchSpanProcessor, NodeTracerProvider } from '@opentelemetry/sdk-trace-node';
import * as ai from 'ai';

export async function start(version) {
  const processor = new BatchSpanProcessor(new OTLPTraceExporter(), { maxQueueSize: 100_000 });
  const provider = new NodeTracerProvider({
    resource: resourceFromAttributes({ 'service.name': 'shop' }),
    spanProcessors: [processor],
  });
  provider.register();
  if (version.startsWith('7')) {
    const otel = await import('@ai-sdk/otel');
    const told = { usage: true, providerMetadata: true };
    ai.registerTelemetry(version === '7' ? new otel.OpenTelemetry(told) : new otel.LegacyOpenTelemetry());
  }
  return provider;
}
