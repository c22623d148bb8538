#!/usr/bin/env node
// Writes grafana/dashboards/*.json: node grafana/build.mjs. With --check it writes nothing and fails when a file differs.
//
// In a query {I} stands for the instance, {S} for instance and settlement, both also before more matchers ({I,qos="0"}),
// and [R] for Grafana's own rate interval. A name with colons is recorded by deploy/prometheus/rules.yml.
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const DIRECTORY = join(dirname(fileURLToPath(import.meta.url)), 'dashboards');
// Where the documents are published. The rules have the same base; docs/metrics.md says how to put another in.
const DOCS = 'https://windlass.example/docs';
const SOURCE = { type: 'prometheus', uid: '${datasource}' };
const GOOD = 'green', POOR = 'orange', BAD = 'red';

const query = (expr) => expr
  .replaceAll(/\{([IS])\b/g, (_, s) => '{instance=~"$instance"' + (s === 'S' ? ',settlement=~"$settlement"' : ''))
  .replaceAll('[R]', '[$__rate_interval]');

const targets = (queries) => queries.map(([expr, legend = ''], i) => (
  { refId: 'ABCDEFGH'[i], datasource: SOURCE, expr: query(expr), legendFormat: legend }));

// Colours from the values on: steps([30, POOR], [120, BAD]).
const steps = (...from) => ({ mode: 'absolute', steps: [[null, GOOD], ...from].map(([value, color]) => ({ color, value })) });
const words = (map) => [{ type: 'value', options: Object.fromEntries(
  Object.entries(map).map(([value, [text, color]], index) => [value, { text, color, index }])) }];

// A number with its recent course.
const stat = (title, unit, expr, description, { thresholds = steps(), mappings = [], decimals } = {}) => ({
  type: 'stat', title, description, w: 3, h: 4,
  fieldConfig: { defaults: { unit, decimals, noValue: '–', thresholds, mappings }, overrides: [] },
  options: { reduceOptions: { calcs: ['lastNotNull'] }, colorMode: 'value', graphMode: 'area', textMode: 'value' },
  targets: targets([[expr]]),
});

// Lines over time; `queries` is [[expr, legend], …].
const lines = (title, unit, queries, description, { w = 8, min = 0, log = false } = {}) => ({
  type: 'timeseries', title, description, w, h: 8,
  fieldConfig: {
    defaults: {
      unit, min: log ? undefined : min, noValue: '0',
      custom: { lineWidth: 2, fillOpacity: 8, showPoints: 'never', scaleDistribution: log ? { type: 'log', log: 10 } : undefined },
    },
    overrides: [],
  },
  options: {
    legend: { displayMode: 'table', placement: 'bottom', calcs: ['lastNotNull', 'max'] },
    tooltip: { mode: 'multi', sort: 'desc' },
  },
  targets: targets(queries),
});

// Which of few states something was in.
const states = (title, queries, description, mappings, { w = 12 } = {}) => ({
  type: 'state-timeline', title, description, w, h: 7,
  fieldConfig: { defaults: { mappings, custom: { fillOpacity: 75, lineWidth: 0 } }, overrides: [] },
  options: { mergeValues: true, showValue: 'never', rowHeight: 0.8, legend: { displayMode: 'list', placement: 'bottom' } },
  targets: targets(queries),
});

const row = (title) => ({ type: 'row', title, w: 24, h: 1, collapsed: false, panels: [] });
const quantile = (q, metric) => `histogram_quantile(${q}, sum by (le) (rate(${metric}_bucket{I}[R])))`;
const times = (metric) => [[quantile(0.5, metric), 'p50'], [quantile(0.99, metric), 'p99']];
// Of counts: below the first bucket's bound a quantile would be a fraction of a reading.
const sizes = (metric) => [[`sum(rate(${metric}_sum{I}[R])) / sum(rate(${metric}_count{I}[R]))`, 'mean'], [quantile(0.99, metric), 'p99']];

const OVERVIEW = ['overview', 'Windlass overview', 'metrics.md', [
  row('Now'),
  stat('Gateways', 'none', 'min(up{I,job="windlass"})', 'Whether each gateway answers Prometheus',
    { mappings: words({ 1: ['up', GOOD], 0: ['down', BAD] }) }),
  stat('Alerts', 'none', 'count(ALERTS{I,alertname=~"Windlass.*",alertstate="firing"}) or vector(0)', 'Firing now',
    { thresholds: steps([1, BAD]) }),
  stat('Accepted', 'cps', 'sum(windlass:readings_accepted:rate2m{S})', 'Readings on disk, per second', { decimals: 1 }),
  stat('Ack p99', 's', 'max(windlass:ack_seconds:p99_2m{I})', 'From a publish read to its PUBACK; the slowest gateway',
    { thresholds: steps([0.1, POOR], [1, BAD]) }),
  stat('Mined p99', 's', 'max(windlass:confirmation_seconds:p99_2m{S,stage="mined"})', 'From publish to inclusion; the slowest settlement'),
  stat('Final p99', 's', 'max(windlass:confirmation_seconds:p99_2m{S,stage="final"})', 'From publish to finality; the slowest settlement'),
  stat('Unsettled', 'short', 'sum(windlass_unsettled_readings{I})', 'Readings accepted and not yet mined'),
  stat('Oldest unsettled', 's', 'max(windlass_unsettled_age_seconds{I})', 'How long the oldest of them waits',
    { thresholds: steps([30, POOR], [120, BAD]) }),
  row('Readings'),
  lines('Readings', 'cps', [
    ['sum(rate(windlass_readings_received_total{I}[R]))', 'received'],
    ['sum(rate(windlass_readings_accepted_total{S}[R]))', 'accepted'],
    ['sum(rate(windlass_readings_settled_total{S}[R]))', 'mined'],
    ['sum(rate(windlass_readings_rejected_total{I}[R]))', 'rejected'],
  ], 'Per second: off the wire, on disk, on chain, refused for what they are', { w: 12 }),
  lines('Acknowledgement', 's', [
    ['windlass:ack_seconds:p50_2m{I}', 'p50 {{instance}}'],
    ['windlass:ack_seconds:p99_2m{I}', 'p99 {{instance}}'],
  ], 'From a publish read to its PUBACK or PUBREC written, over two minutes', { w: 12 }),
  lines('Publish to mined', 's', [
    ['max by (settlement) (windlass:confirmation_seconds:p50_2m{S,stage="mined"})', 'p50 {{settlement}}'],
    ['max by (settlement) (windlass:confirmation_seconds:p99_2m{S,stage="mined"})', 'p99 {{settlement}}'],
  ], 'Until the reading is in a block, over two minutes', { w: 12 }),
  lines('Publish to final', 's', [
    ['max by (settlement) (windlass:confirmation_seconds:p50_2m{S,stage="final"})', 'p50 {{settlement}}'],
    ['max by (settlement) (windlass:confirmation_seconds:p99_2m{S,stage="final"})', 'p99 {{settlement}}'],
  ], 'Until that block is final, over two minutes', { w: 12 }),
  row('Backlog and health'),
  lines('Unsettled readings', 'short', [['windlass_unsettled_readings{I}', '{{instance}}']], 'Accepted and not yet mined', { w: 12 }),
  lines('Age of the oldest unsettled', 's', [['windlass_unsettled_age_seconds{I}', '{{instance}}']],
    'WindlassNotSettling fires beyond 120 s', { w: 12 }),
  states('Health', [
    ['up{I,job="windlass"}', 'answers {{instance}}'],
    ['windlass_router_up{I}', 'router {{instance}}'],
    ['1 - windlass_config_stale{I}', 'config {{instance}}'],
  ], 'Answers Prometheus; MQTT router forwards to users; config files are the running ones', words({ 1: ['good', GOOD], 0: ['bad', BAD] })),
  states('Alerts', [['max by (alertname, instance) (ALERTS{I,alertname=~"Windlass.*",alertstate="firing"})', '{{alertname}} {{instance}}']],
    'Each while it fires; its annotation names its section in the runbooks', words({ 1: ['firing', BAD] })),
]];

const DEVICES = ['devices', 'Windlass devices', 'mqtt.md', [
  row('Now'),
  stat('Connections', 'short', 'sum(windlass_connections{I})', 'Authenticated sessions'),
  stat('Connects', 'cps', 'sum(rate(windlass_connects_total{I,outcome="accepted"}[R]))', 'Accepted, per second', { decimals: 1 }),
  stat('Refused connects', 'short', 'sum(increase(windlass_connects_total{I,outcome!="accepted"}[$__range]))', 'In the time shown',
    { thresholds: steps([1, POOR]), decimals: 0 }),
  stat('Accepted', 'cps', 'sum(windlass:readings_accepted:rate2m{S})', 'Readings on disk, per second', { decimals: 1 }),
  stat('Rejected', 'cps', 'sum(windlass:readings_rejected:rate2m{I})', 'Publishes refused for what they are, per second', { decimals: 1 }),
  stat('To quarantine', 'short', 'sum(increase(windlass_readings_rejected_total{I,reason!~"retained|malformed"}[$__range]))',
    'In the time shown; windlass quarantine list shows them', { thresholds: steps([1, POOR]), decimals: 0 }),
  stat('Throttled', 'short', 'sum(increase(windlass_readings_throttled_total{I}[$__range]))', 'Readings over their device\'s rate, in the time shown',
    { thresholds: steps([1, POOR]), decimals: 0 }),
  stat('Bans', 'short', 'sum(increase(windlass_bans_total{I}[$__range]))', 'In the time shown', { thresholds: steps([1, POOR]), decimals: 0 }),
  row('Connections'),
  lines('Connections', 'short', [['windlass_connections{I}', '{{instance}}']], 'Authenticated sessions'),
  lines('Connects by outcome', 'cps', [['sum by (outcome) (rate(windlass_connects_total{I}[R])) > 0', '{{outcome}}']], 'Attempts per second'),
  lines('Bans and takeovers', 'cps', [
    ['sum by (by) (rate(windlass_bans_total{I}[R]))', 'banned: {{by}}'],
    ['sum by (slowed) (rate(windlass_takeovers_total{I}[R]))', 'taken over, slowed: {{slowed}}'],
  ], 'Slowed takeovers are two sources that share an id'),
  row('Readings'),
  lines('Accepted by settlement', 'cps', [['sum by (settlement) (rate(windlass_readings_accepted_total{S}[R]))', '{{settlement}}']], 'Readings on disk'),
  lines('Received by QoS', 'cps', [['sum by (qos) (rate(windlass_readings_received_total{I}[R]))', 'QoS {{qos}}']], 'Publishes on the devices\' own topics'),
  lines('Rejected by reason', 'cps', [['sum by (reason) (windlass:readings_rejected:rate2m{I}) > 0', '{{reason}}']], 'Reasons: docs/mqtt.md, "Refused payloads"'),
  row('Quarantine and limits'),
  lines('To quarantine', 'short', [['sum by (reason) (increase(windlass_readings_rejected_total{I,reason!~"retained|malformed"}[R])) > 0', '{{reason}}']],
    'Refused payloads that were kept; packets over the size limit count here too, and are not kept'),
  lines('Rate limits', 'cps', [
    ['sum by (action) (rate(windlass_readings_throttled_total{I}[R]))', 'reading {{action}}'],
    ['sum by (outcome) (rate(windlass_connects_total{I,outcome=~"connect_rate|banned|limit|address_limit|busy"}[R]))', 'connect: {{outcome}}'],
  ], 'What the limits of [broker.limits] turned away'),
  lines('Not taken by the journal', 'cps', [['sum by (reason) (rate(windlass_journal_refused_total{I}[R]))', '{{reason}}']],
    'Not acknowledged: journal.max_unsettled is reached, or journal.queue is full'),
  row('Users'),
  lines('Messages dropped', 'cps', [['sum(rate(windlass_receipts_dropped_total{I}[R]))', 'dropped']], 'To subscribers whose session or queue was full', { w: 12 }),
  lines('MQTT router', 'short', [
    ['sum(increase(windlass_router_restarts_total{I}[R]))', 'restarts'],
    ['sum(increase(windlass_router_strays_total{I}[R]))', 'strays'],
  ], 'Restarts, and messages that nobody had subscribed to: any is a fault', { w: 12 }),
]];

const CHAIN = ['chain', 'Windlass chain', 'settlements.md', [
  row('Now'),
  stat('Balance', 'suffix: ETH', 'min(windlass_lane_balance_ether{I})', 'Smallest of the submitters; 0 until a node has answered',
    { thresholds: { mode: 'absolute', steps: [{ color: BAD, value: null }, { color: POOR, value: 0.05 }, { color: GOOD, value: 0.2 }] } }),
  stat('Runway', 'h', 'min(windlass_lane_runway_hours{I} < Inf)', 'Until the poorest submitter is empty at the last hour\'s spending; none while nothing is spent',
    { thresholds: { mode: 'absolute', steps: [{ color: BAD, value: null }, { color: POOR, value: 24 }, { color: GOOD, value: 72 }] } }),
  stat('Oldest unconfirmed', 's', 'max(windlass_lane_oldest_unconfirmed_seconds{I})', 'Age of the oldest transaction without inclusion',
    { thresholds: steps([60, POOR], [180, BAD]) }),
  stat('Lanes at max_fee', 'none', 'sum(windlass_fee_capped{I})', 'Their replacement would cost more than chain.max_fee', { thresholds: steps([1, BAD]) }),
  stat('Gas per reading', 'short', 'max(windlass:gas_per_reading:avg10m{S})', 'Mean of ten minutes; the dearest settlement', { decimals: 0 }),
  stat('Replaced', 'short', 'sum(increase(windlass_replacements_total{I}[$__range]))', 'Transactions replaced at a higher fee, in the time shown', { decimals: 0 }),
  stat('Reorgs', 'short', 'sum(increase(windlass_reorgs_total{I}[$__range]))', 'In the time shown', { thresholds: steps([1, POOR]), decimals: 0 }),
  stat('Requeued', 'short', 'sum(increase(windlass_readings_requeued_total{I}[$__range]))', 'Readings that went back to unsettled, in the time shown',
    { thresholds: steps([1, POOR]), decimals: 0 }),
  row('Lanes'),
  lines('Transactions by outcome', 'cps', [['sum by (outcome) (rate(windlass_transactions_total{I}[R])) > 0', '{{outcome}}']], 'Sends by the nodes\' verdict, and inclusions'),
  lines('Oldest unconfirmed transaction', 's', [['windlass_lane_oldest_unconfirmed_seconds{I}', '{{instance}}']], 'WindlassStuckTransaction fires beyond 180 s'),
  lines('Readings per batch', 'short', sizes('windlass_batch_readings'), 'Whole batches'),
  row('Fees and gas'),
  lines('Gas per reading', 'short', [
    ['max by (settlement) (windlass_gas_per_reading{S} > 0)', '{{settlement}}'],
    ['max by (settlement) (windlass_gas_per_reading_expected{S} > 0)', '{{settlement}} expected'],
  ], 'Newest included batch, and what the newest batch was expected to use when it was signed', { log: true }),
  lines('Gas used', 'short', [['sum by (settlement) (rate(windlass_gas_used_total{S}[R]))', '{{settlement}}']], 'Gas per second of included settlement transactions'),
  lines('Replacements and fee cap', 'short', [
    ['sum(increase(windlass_replacements_total{I}[R]))', 'replaced'],
    ['sum(windlass_fee_capped{I})', 'lanes at max_fee'],
  ], 'Replaced at a higher fee; lanes that may not offer more'),
  row('Trouble'),
  lines('Unknown sends', 'short', [['sum(increase(windlass_unknown_sends_total{I}[R]))', 'unknown']], 'Sends without a clear answer; the same bytes are sent again'),
  lines('Reorgs and requeued readings', 'short', [
    ['sum(increase(windlass_reorgs_total{I}[R]))', 'reorgs'],
    ['sum(increase(windlass_readings_requeued_total{I}[R]))', 'requeued'],
  ], 'Requeued: by reorg, revert or skip; they settle again'),
  lines('Signers', 'short', [['sum by (reason) (increase(windlass_signer_failures_total{I}[R]))', '{{reason}}']], 'Times that a signer on another machine did not sign'),
  row('Accounts, nodes and log'),
  lines('Submitter balance', 'suffix: ETH', [['windlass_lane_balance_ether{I}', '{{instance}}']], 'Smallest of the gateway\'s submitters', { w: 6 }),
  lines('Runway', 'h', [['windlass_lane_runway_hours{I} < Inf', '{{instance}}']], 'WindlassLowRunway fires below 24 h', { w: 6 }),
  lines('Node round trips, p99', 's', [['max by (method) (windlass:rpc_seconds:p99_2m{I})', '{{method}}']], 'JSON-RPC, over two minutes', { w: 6 }),
  lines('Node requests', 'cps', [['sum by (outcome) (rate(windlass_rpc_seconds_count{I}[R]))', '{{outcome}}']], 'JSON-RPC, per second', { w: 6 }),
  lines('Append-only log', 'short', [['windlass_log_size{I}', '{{instance}}']], 'Readings in the log that the newest anchor states', { w: 12 }),
  lines('P-256 precompile', 'none', [['windlass_p256_precompile{I}', '{{instance}}']], '1: the chain verifies P-256 by itself', { w: 12 }),
]];

const JOURNAL = ['journal', 'Windlass journal and process', 'operations.md', [
  row('Now'),
  stat('Commit p99', 's', 'max(windlass:journal_commit_seconds:p99_5m{I})', 'One commit, fsync included, over five minutes', { thresholds: steps([0.1, POOR], [0.5, BAD]) }),
  stat('Failed commits', 'short', 'sum(increase(windlass_journal_commit_failures_total{I}[$__range]))', 'In the time shown; nothing of them was acknowledged',
    { thresholds: steps([1, BAD]), decimals: 0 }),
  stat('Journal', 'bytes', 'sum(windlass_journal_file_bytes{I})', 'File and write-ahead log'),
  stat('Disk free', 'bytes', 'min(windlass_journal_disk_free_bytes{I})', 'On the journal\'s disk; the poorest gateway',
    { thresholds: { mode: 'absolute', steps: [{ color: BAD, value: null }, { color: POOR, value: 2 ** 30 }, { color: GOOD, value: 5 * 2 ** 30 }] } }),
  stat('CPU', 'percentunit', 'max(rate(process_cpu_seconds_total{I}[R]))', 'Of one core; the busiest gateway'),
  stat('Memory', 'bytes', 'max(process_resident_memory_bytes{I})', 'Resident; the largest gateway'),
  stat('Open files', 'percentunit', 'max(process_open_fds{I} / process_max_fds{I})', 'Of how many may be open', { thresholds: steps([0.7, POOR], [0.9, BAD]) }),
  stat('Up since', 's', 'min(time() - process_start_time_seconds{I})', 'The youngest process'),
  row('Commits'),
  lines('Commit time', 's', times('windlass_journal_commit_seconds'), 'fsync included; acknowledgements wait for it'),
  lines('Commits', 'cps', [['sum(rate(windlass_journal_commit_seconds_count{I}[R]))', 'commits']], 'Per second, those without readings included'),
  lines('Readings per commit', 'short', sizes('windlass_journal_commit_readings'), 'What one fsync was shared by'),
  row('Disk'),
  lines('Journal size', 'bytes', [['windlass_journal_file_bytes{I}', '{{file}} {{instance}}']], 'windlass archive takes old batches out; the file does not shrink'),
  lines('Disk free', 'bytes', [['windlass_journal_disk_free_bytes{I}', '{{instance}}']], 'On the journal\'s disk'),
  lines('Not stored', 'short', [
    ['sum(increase(windlass_journal_commit_failures_total{I}[R]))', 'failed commits'],
    ['sum(increase(windlass_journal_refused_total{I}[R]))', 'refused readings'],
  ], 'Nothing of these was acknowledged'),
  row('Process'),
  lines('CPU', 'percentunit', [['rate(process_cpu_seconds_total{I}[R])', '{{instance}}']], 'Of one core', { w: 6 }),
  lines('Memory', 'bytes', [['process_resident_memory_bytes{I}', '{{instance}}']], 'Resident', { w: 6 }),
  lines('File descriptors', 'short', [['process_open_fds{I}', 'open {{instance}}'], ['process_max_fds{I}', 'may be open {{instance}}']], 'A socket is one', { w: 6, log: true }),
  lines('Threads', 'short', [['process_threads{I}', '{{instance}}']], 'Of the process', { w: 6 }),
  row('Device actors and config'),
  lines('Mailbox full', 'cps', [['sum(rate(windlass_mailbox_full_total{I}[R]))', 'waits']], 'Publishes that had to wait; their sockets are slowed'),
  lines('Actors built again', 'short', [['sum by (cause) (increase(windlass_device_rebuilds_total{I}[R]))', '{{cause}}']], 'From the journal, after rest or fault'),
  lines('Config read again', 'short', [
    ['sum by (outcome) (increase(windlass_reloads_total{I}[R]))', '{{outcome}}'],
    ['max(windlass_config_stale{I})', 'stale'],
  ], 'Stale: the files cannot be used and the old configuration goes on'),
  row('HTTP and traces'),
  lines('HTTP requests', 'reqps', [['sum by (outcome) (rate(windlass_http_requests_total{I}[R]))', '{{outcome}}']], 'Page, API, health and metrics, by what became of them'),
  lines('Listeners of live events', 'short', [['windlass_http_event_streams{I}', '{{instance}}']], 'Open streams of server-sent events'),
  lines('Trace spans', 'cps', [['sum by (outcome) (rate(windlass_trace_spans_total{I}[R]))', '{{outcome}}']], 'For the collector of telemetry.otlp; failed and dropped ones are gone'),
]];

// Panels from left to right, a new line when one does not fit.
function place(panels) {
  let x = 0, y = 0, height = 0;
  return panels.map(({ w, h, ...panel }, i) => {
    if (x + w > 24) [x, y, height] = [0, y + height, 0];
    const placed = { id: i + 1, ...panel, gridPos: { h, w, x, y } };
    if (panel.type !== 'row') placed.datasource = SOURCE;
    [x, height] = [x + w, Math.max(height, h)];
    return placed;
  });
}

const variable = (name, label, metric) => ({
  name, label, type: 'query', datasource: SOURCE, query: { query: `label_values(${metric}, ${name})`, refId: 'v' },
  refresh: 2, sort: 1, includeAll: true, multi: true, current: { selected: true, text: ['All'], value: ['$__all'] },
});

function dashboard([name, title, document, panels]) {
  const link = (title, page) => ({ title, type: 'link', icon: 'doc', url: `${DOCS}/${page}`, targetBlank: true });
  return {
    uid: `windlass-${name}`, title, tags: ['windlass'], schemaVersion: 39, version: 1, editable: true,
    refresh: '10s', time: { from: 'now-30m', to: 'now' }, timezone: 'browser', graphTooltip: 1,
    links: [
      { title: 'Windlass', type: 'dashboards', tags: ['windlass'], asDropdown: false, includeVars: true, keepTime: true },
      link('About these', document), ...(document === 'metrics.md' ? [] : [link('Metrics', 'metrics.md')]), link('Runbooks', 'runbooks.md'),
    ],
    templating: { list: [
      { name: 'datasource', label: 'Data source', type: 'datasource', query: 'prometheus', current: {} },
      variable('instance', 'Instance', 'windlass_build_info'),
      variable('settlement', 'Settlement', 'windlass_readings_settled_total'),
    ] },
    annotations: { list: [] },
    panels: place(panels),
  };
}

const built = new Map([OVERVIEW, DEVICES, CHAIN, JOURNAL].map((d) => [`windlass-${d[0]}.json`, JSON.stringify(dashboard(d), null, 1) + '\n']));
const there = () => readdirSync(DIRECTORY).filter((file) => file.endsWith('.json'));
if (process.argv.includes('--check')) {
  const read = (file) => { try { return readFileSync(join(DIRECTORY, file), 'utf8'); } catch { return undefined; } };
  const wrong = [...new Set([...built.keys(), ...there()])].filter((file) => read(file) !== built.get(file));
  for (const file of wrong) console.error(`grafana/dashboards/${file} is not what grafana/build.mjs writes: run node grafana/build.mjs`);
  process.exitCode = wrong.length ? 1 : 0;
} else {
  mkdirSync(DIRECTORY, { recursive: true });
  for (const file of there().filter((file) => !built.has(file))) rmSync(join(DIRECTORY, file));
  for (const [file, text] of built) writeFileSync(join(DIRECTORY, file), text);
}
