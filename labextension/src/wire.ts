/** What the service answers: the fields that are shown here of `aiaas_hub/schemas`. */

/** A list is paged by an opaque cursor; null where there is no more. */
export interface Page<T> {
  items: T[];
  next_cursor: string | null;
}

export interface Run {
  id: string;
  owner: string;
  name: string;
  state: RunState;
  reason: string;
  attempt: number;
  kind?: 'train' | 'sweep' | 'trial';
  datasets?: Pinned[];
  model?: Pinned | null;
  created_at: string;
  started_at: string | null;
  finished_at: string | null;
  error: { message: string; remedy: string; traceback: string } | null;
  progress?: { step: number; total: number | null } | null;
  usage?: WorkerUsage[];
  snapshot?: {
    /** The cell, function or script; empty where none travelled. */
    source: string;
  };
  queue?: {
    position: number;
    blocked_by: string;
    remedy: string;
  } | null;
}

export type RunState =
  | 'queued'
  | 'starting'
  | 'running'
  | 'succeeded'
  | 'failed'
  | 'cancelled'
  | 'lost';

export interface WorkerUsage {
  worker: number;
  host: string;
  cpu_percent: number;
  memory_bytes: number;
  memory_total_bytes: number;
  gpu_percent: number | null;
  gpu_memory_bytes: number | null;
}

export interface Metrics {
  points: MetricPoint[];
  next_since: number;
}

export interface MetricPoint {
  step: number;
  /** `"nan"`, `"inf"` and `"-inf"` stand for what JSON has no number for. */
  values: Record<string, number | string>;
}

export interface LogChunk {
  text: string;
  next_offset: number;
}

/** One version of a dataset or of a model. */
export interface Pinned {
  owner: string;
  name: string;
  version: number;
}

export interface Me {
  user: string;
  live_runs: number;
  serving_endpoints: number;
  /** What the user's runs hold of what they may; a limit of null is none. */
  quota: Record<'runs' | 'workers' | 'gpus', Used> | null;
  allowances: Allowance[];
}

export interface Used {
  used: number;
  limit: number | null;
}

export interface Allowance {
  name: string;
  used: number;
  limit: number;
  unit: string;
}

export interface Dataset {
  owner: string;
  name: string;
  description: string;
  licence: string;
  tags: string[];
  visibility: string;
  group: string | null;
  updated_at: string;
  /** Or the version that was asked for. */
  latest: DatasetVersion;
}

export interface DatasetVersion {
  version: number;
  created_at: string;
  format: string;
  size: number;
  rows: number;
  columns: Column[];
  source: string;
  tags: string[];
  retired: boolean;
}

export interface Column {
  name: string;
  type: string;
  nullable: boolean;
}

export interface Preview {
  columns: Column[];
  rows: unknown[][];
  total_rows: number;
  offset: number;
  truncated: boolean;
}

export interface ProfileStatus {
  state: 'none' | 'queued' | 'running' | 'done' | 'failed';
  done: number;
  total: number;
  error: string;
  profile: Profile | null;
}

export interface Profile {
  rows: number;
  looked_at: number;
  duplicates: number;
  columns: ColumnProfile[];
}

export interface ColumnProfile {
  name: string;
  nulls: number;
  distinct: number | null;
  least: unknown;
  most: unknown;
  mean: number | null;
  histogram: { edges: number[]; counts: number[] } | null;
  top: { value: unknown; count: number }[];
  note: string;
}

export interface Model {
  owner: string;
  name: string;
  updated_at: string;
  /** Or the version that was asked for. */
  latest: ModelVersion;
  aliases: Record<string, number>;
}

export interface ModelVersion {
  version: number;
  created_at: string;
  signature: Signature;
  size: number;
  export_max_abs: number;
  framework: string;
  run_id: string | null;
  card: {
    description: string;
    licence: string;
    metrics: Record<string, number>;
  };
}

export interface Signature {
  inputs: Tensor[];
  outputs: Tensor[];
  labels: string[] | null;
}

/** Its shape is without the batch; null is a free dimension. */
export interface Tensor {
  name: string;
  dtype: string;
  shape: (number | null)[];
}

export type EndpointState =
  'staging' | 'verifying' | 'canary' | 'serving' | 'failed' | 'retired';

export interface Endpoint {
  owner: string;
  name: string;
  state: EndpointState;
  /** Version → percent. */
  traffic: Record<string, number>;
  /** Where a rollback leads; empty where there is nothing to go back to. */
  former: Record<string, number>;
  /** Whether it is unloaded, as nobody calls; null: loaded. */
  sleep: 'asleep' | 'waking' | null;
  /** Newest first. */
  versions: EndpointVersion[];
  signature: Signature | null;
  url: string;
  updated_at: string;
}

export interface EndpointVersion {
  version: number;
  model: Pinned;
  state: EndpointState;
  created_at: string;
  created_by: string;
  parity: {
    max_abs: number;
    rows: number;
    p50_ms: number;
    p99_ms: number;
  } | null;
  plan: { percent: number; bake_seconds: number | null } | null;
  routed_at: string | null;
  reason: string;
  error: string;
}

export interface VersionStatistics {
  version: number;
  percent: number;
  requests: number;
  errors: number;
  p50_ms: number | null;
  p95_ms: number | null;
  p99_ms: number | null;
  healthy: boolean | null;
  /** What was wrong with the last canary inference. */
  fault?: string;
  /** Of the last hour, oldest first. */
  samples: Sample[];
}

/** How what callers send differs from what a version was made from. */
export interface VersionDrift {
  version: number;
  percent: number;
  rows: number;
  /** Why nothing is compared; else empty. */
  reason: string;
  /** Most changed first. */
  features: { name: string; psi: number; change: 'none' | 'some' | 'much' }[];
}

export interface Sample {
  at: string;
  requests_per_second: number;
  /** Null where nobody called. */
  p95_ms: number | null;
}

/** Its token is in the answer to its creation, and nowhere else. */
export interface Key {
  id: string;
  note: string;
  scope: string;
  created_at: string;
  expires_at: string;
  revoked_at: string | null;
  token: string | null;
}

/** What a thing came from: endpoint ← model ← run ← data. */
export interface Lineage {
  endpoint: string | null;
  endpoint_version: number | null;
  model: Pinned | null;
  run: Run | null;
  datasets: Pinned[];
}

/** How an endpoint is called; empty while it answers nothing. */
export interface Trial {
  /** What its model takes, in a sentence. */
  takes: string;
  /** Whether that is a text, not rows. */
  takes_text: boolean;
  /** A row, or a text, to be typed over. */
  sample: string;
  /** Null where its model takes no picture. */
  picture: PictureForm | null;
  /** Language → a program that calls it. */
  programs: Record<string, string>;
}

export interface PictureForm {
  /** What is done to a picture, in a sentence. */
  takes: string;
  /** Scale → what the numbers of a picture then are, the likeliest first. */
  scales: Record<string, string>;
  /** Whether it is more than rows that have the shape of one. */
  is_likely: boolean;
  most_bytes: number;
}

/** What is asked: what somebody typed, or a picture; a version, or where the traffic leads. */
export interface Question {
  text?: string;
  picture?: {
    /** The file, in base64. */
    content: string;
    scale: string;
    /** What is dark becomes bright. */
    invert: boolean;
  };
  version: number | null;
}

/** What it said to that. */
export interface TrialAnswer {
  titles: string[];
  lines: string[][];
  said: string;
  /** The picture as it was sent, the address of an image; or empty. */
  seen: string;
}

const SETTLED: ReadonlySet<EndpointState> = new Set([
  'serving',
  'failed',
  'retired'
]);

/** Whether nothing changes of itself. */
export function isSettled(endpoint: Endpoint): boolean {
  return SETTLED.has(endpoint.state);
}

/** A canary that has its share of the requests, and may be promoted. */
export function canary(endpoint: Endpoint): EndpointVersion | null {
  return (
    endpoint.versions.find(
      one => one.state === 'canary' && one.plan && one.routed_at
    ) ?? null
  );
}

const OVER: ReadonlySet<RunState> = new Set([
  'succeeded',
  'failed',
  'cancelled',
  'lost'
]);

export function isOver(run: Run): boolean {
  return OVER.has(run.state);
}

const NAMED: Record<string, number> = { inf: Infinity, '-inf': -Infinity };

export function toNumber(value: number | string): number {
  return typeof value === 'number' ? value : (NAMED[value] ?? NaN);
}
