// Draws one dashboard with the components of Grafana itself: its JSON and what Prometheus answered stand in `window`.
import {
  applyFieldOverrides,
  cacheFieldDisplayNames,
  createTheme,
  dateTime,
  EventBusSrv,
  FieldType,
  getFieldDisplayValues,
  identityOverrideProcessor,
  Registry,
  renderMarkdown,
  standardTransformers,
  standardTransformersRegistry,
  ThemeContext,
  toDataFrame,
  transformDataFrame,
} from '@grafana/data';
import { BarGauge, BigValue, GlobalStyles, PanelChrome, PanelContextProvider, TimeSeries, VizRepeater } from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';
import '@fontsource/inter/400.css';
import '@fontsource/inter/500.css';
import React from 'react';
import { createRoot } from 'react-dom/client';

const { page, answers, range, width } = window.told;
const theme = createTheme({ colors: { mode: 'light' } });
const CELL = 30, GAP = 8;
const timeRange = { from: dateTime(range[0] * 1000), to: dateTime(range[1] * 1000), raw: { from: 'now-7d', to: 'now' } };

standardTransformersRegistry.setInit(() =>
  [...new Map(Object.values(standardTransformers).map((found) => [found.id, found])).values()].map((transformation) => ({ id: transformation.id, name: transformation.name, transformation: async () => transformation }))
);

// The properties that the dashboards set; Grafana's panels register them by themselves.
const GENERAL = ['unit', 'decimals', 'min', 'max', 'noValue', 'displayName', 'thresholds', 'mappings', 'links', 'color'];
const CUSTOM = [
  'width', 'minWidth', 'align', 'cellOptions', 'inspect', 'filterable', 'hidden',
  'drawStyle', 'lineInterpolation', 'lineWidth', 'lineStyle', 'fillOpacity', 'gradientMode', 'showPoints', 'pointSize',
  'spanNulls', 'insertNulls', 'barAlignment', 'barWidthFactor', 'stacking', 'hideFrom', 'thresholdsStyle', 'axisPlacement',
  'axisColorMode', 'axisLabel', 'axisWidth', 'axisSoftMin', 'axisSoftMax', 'axisGridShow', 'axisBorderShow',
  'axisCenteredZero', 'scaleDistribution',
];
const property = (path, isCustom) => ({
  id: isCustom ? `custom.${path}` : path, path, isCustom, name: path, editor: () => null, override: () => null,
  process: identityOverrideProcessor, shouldApply: () => true, settings: {},
});
const fieldConfigRegistry = new Registry(() => [...GENERAL.map((p) => property(p, false)), ...CUSTOM.map((p) => property(p, true))]);

// What the plugins of Grafana set where a dashboard is silent.
const DEFAULTS = {
  timeseries: {
    drawStyle: 'line', lineInterpolation: 'linear', lineWidth: 1, fillOpacity: 0, gradientMode: 'none', showPoints: 'auto',
    pointSize: 5, spanNulls: false, barAlignment: 0, barWidthFactor: 0.9, stacking: { mode: 'none', group: 'A' },
    hideFrom: { legend: false, tooltip: false, viz: false }, thresholdsStyle: { mode: 'off' }, axisPlacement: 'auto',
    axisColorMode: 'text', axisLabel: '', axisGridShow: true, axisBorderShow: false, scaleDistribution: { type: 'linear' },
  },
  table: { align: 'auto', cellOptions: { type: 'auto' }, inspect: false },
};

function legend(target, labels) {
  if (!target.legendFormat) {
    return Object.keys(labels).length ? `{${Object.entries(labels).map(([k, v]) => `${k}="${v}"`).join(', ')}}` : 'Value';
  }
  return target.legendFormat.replace(/\{\{(\w+)\}\}/g, (_, name) => labels[name] ?? '');
}

// Grafana's time series draw nothing where a value is no number.
function finite(text) {
  return Number.isFinite(Number(text)) ? Number(text) : null;
}

// As the Prometheus data source makes frames of an answer.
function frames(panel) {
  return (panel.targets ?? []).flatMap((target) => {
    const result = answers[`${panel.id}${target.refId}`] ?? [];
    if (target.format === 'table') {
      const names = [...new Set(result.flatMap(({ metric }) => Object.keys(metric)))].filter((name) => name !== '__name__').sort();
      const value = panel.targets.length > 1 ? `Value #${target.refId}` : 'Value';
      return [toDataFrame({
        refId: target.refId,
        fields: [
          { name: 'Time', type: FieldType.time, values: result.map(({ value: [at] }) => at * 1000) },
          ...names.map((name) => ({ name, type: FieldType.string, values: result.map(({ metric }) => metric[name] ?? '') })),
          { name: value, type: FieldType.number, values: result.map(({ value: [, text] }) => Number(text)) },
        ],
      })];
    }
    return result.map(({ metric, value, values }) => {
      const points = values ?? [value];
      return toDataFrame({
        refId: target.refId,
        fields: [
          { name: 'Time', type: FieldType.time, values: points.map(([at]) => at * 1000) },
          {
            name: 'Value', type: FieldType.number, labels: metric, values: points.map(([, text]) => finite(text)),
            config: { displayNameFromDS: legend(target, metric) },
          },
        ],
      });
    });
  });
}

const configOf = (panel) => {
  const { defaults, overrides } = panel.fieldConfig;
  return { defaults: { ...defaults, links: [], custom: { ...DEFAULTS[panel.type], ...defaults.custom } }, overrides };
};
const replaceVariables = (text) => text;

function dressed(panel, data) {
  const made = applyFieldOverrides({ data, fieldConfig: configOf(panel), fieldConfigRegistry, replaceVariables, theme, timeZone: 'utc' });
  cacheFieldDisplayNames(made);
  return made;
}

function values(panel, data) {
  const { defaults, overrides } = panel.fieldConfig;
  return getFieldDisplayValues({
    fieldConfig: { defaults, overrides }, reduceOptions: panel.options.reduceOptions, replaceVariables, theme,
    data: dressed(panel, data), timeZone: 'utc',
  });
}

function Message({ text }) {
  return <div className="told">{text}</div>;
}

function Content({ panel, data, width, height }) {
  if (panel.type === 'text') {
    return <div className="markdown" dangerouslySetInnerHTML={{ __html: renderMarkdown(panel.options.content) }} />;
  }
  if (!data.some((frame) => frame.length)) {
    return <Message text={panel.fieldConfig.defaults.noValue} />;
  }
  if (panel.type === 'stat') {
    const [shown] = values(panel, data);
    const { colorMode, graphMode, justifyMode, textMode, text } = panel.options;
    return <BigValue {...{ width, height, theme, colorMode, graphMode, justifyMode, textMode, text }} value={shown.display} />;
  }
  if (panel.type === 'bargauge') {
    const { displayMode, orientation, showUnfilled, valueMode, namePlacement, text } = panel.options;
    return (
      <VizRepeater
        {...{ width, height, orientation }}
        source={data}
        getValues={() => values(panel, data)}
        itemSpacing={8}
        maxVizHeight={28}
        minVizHeight={16}
        getAlignmentFactors={(found) => ({
          title: found.reduce((longest, { display }) => (display.title.length > longest.length ? display.title : longest), ''),
          text: found.reduce((longest, { display }) => (display.text.length > longest.length ? display.text : longest), ''),
        })}
        renderValue={({ value, width, height, alignmentFactors, orientation, count }) => (
          <BarGauge
            {...{ width, height, theme, orientation, displayMode, showUnfilled, namePlacement, text }}
            valueDisplayMode={valueMode} value={value.display} field={value.field} display={value.view?.getFieldDisplayProcessor(value.colIndex)}
            alignmentFactors={count > 1 ? alignmentFactors : undefined}
          />
        )}
      />
    );
  }
  if (panel.type === 'table') {
    return <TableNG {...{ width, height }} data={dressed(panel, data)[0]} sortBy={panel.options.sortBy} cellHeight={panel.options.cellHeight} />;
  }
  if (panel.type === 'timeseries') {
    return <TimeSeries {...{ width, height, timeRange }} frames={dressed(panel, data)} timeZone="utc" legend={{ ...panel.options.legend, calcs: [] }} options={panel.options} />;
  }
  return <Message text={`A ${panel.type} is drawn by a plugin inside Grafana and is left out of this picture.`} />;
}

function Panel({ panel }) {
  const [data, keep] = React.useState(panel.transformations ? null : frames(panel));
  React.useEffect(() => {
    if (panel.transformations) {
      const steps = panel.transformations.map(({ id, options }) => ({ id, options }));
      const found = frames(panel).filter((frame) => frame.length);
      transformDataFrame(steps, found, { interpolate: replaceVariables }).subscribe(keep);
    }
  }, []);
  const unit = (width + GAP) / 24;
  const { x, y, w, h } = panel.gridPos;
  const size = { width: w * unit - GAP, height: h * (CELL + GAP) - GAP };
  return (
    <div id={`panel-${panel.id}`} style={{ position: 'absolute', left: x * unit, top: y * (CELL + GAP), ...size }}>
      {panel.type === 'row' ? <h2>{panel.title}</h2> : (
        <PanelChrome {...size} title={panel.title} padding={panel.type === 'timeseries' || panel.type === 'stat' || panel.type === 'table' ? 'sm' : 'md'}>
          {(width, height) => data && <Content {...{ panel, data, width, height }} />}
        </PanelChrome>
      )}
    </div>
  );
}

const CONTEXT = { eventsScope: '', eventBus: new EventBusSrv(), canAddAnnotations: () => false };

// Axes and grids are grey; whatever has a colour is data.
function coloured(canvas) {
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  for (let at = 0; at < data.length; at += 4) {
    const [red, green, blue, alpha] = data.subarray(at, at + 4);
    if (alpha > 40 && Math.max(red, green, blue) - Math.min(red, green, blue) > 60) {
      return true;
    }
  }
  return false;
}

function Drawn() {
  // Transformations and plots take a few rounds; then the test reads what stands in each panel.
  React.useEffect(() => {
    setTimeout(() => {
      const found = page.panels.filter(({ type }) => type !== 'row').map(({ id, title }) => {
        const box = document.getElementById(`panel-${id}`);
        const canvas = box.querySelector('canvas');
        const inked = canvas ? coloured(canvas) : false;
        return { title, text: box.innerText, inked };
      });
      console.log(`DRAWN ${JSON.stringify(found)}`);
    }, 3000);
  }, []);
  return null;
}

createRoot(document.getElementById('root')).render(
  <ThemeContext.Provider value={theme}>
    <GlobalStyles />
    <PanelContextProvider value={CONTEXT}>
      <h1>{page.title}</h1>
      <div style={{ position: 'relative' }}>{page.panels.map((panel) => <Panel key={panel.id} panel={panel} />)}</div>
      <Drawn />
    </PanelContextProvider>
  </ThemeContext.Provider>
);
