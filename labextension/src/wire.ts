/** What the service answers: the fields that are shown here of `aiaas_hub/schemas/runs.py`. */

export interface Run {
  id: string;
  owner: string;
  name: string;
  state: RunState;
  reason: string;
  attempt: number;
  created_at: string;
  started_at: string | null;
  finished_at: string | null;
  error: { message: string; remedy: string; traceback: string } | null;
  progress?: { step: number; total: number | null } | null;
  usage?: WorkerUsage[];
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
