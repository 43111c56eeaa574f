/** The service, through the user's own notebook server: it adds the token, we never see one. */

import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';
import { createParser } from 'eventsource-parser';

import { ServiceError } from './serviceError';
import {
  Dataset,
  DatasetVersion,
  Endpoint,
  Key,
  Lineage,
  LogChunk,
  Me,
  Metrics,
  Model,
  Page,
  Preview,
  ProfileStatus,
  Question,
  Run,
  Trial,
  TrialAnswer,
  VersionDrift,
  VersionStatistics
} from './wire';

export { ServiceError } from './serviceError';

/** Which part of a list, or which version. What is undefined is not asked for. */
export type Query = Record<string, string | number | undefined>;

export type RunEvent =
  | { name: 'run' | 'end'; data: Run }
  | { name: 'metrics'; data: Metrics }
  | { name: 'log'; data: LogChunk };

const ONCE = 'Idempotency-Key';
const NAMES = new Set(['run', 'end', 'metrics', 'log']);
// A line that grows beyond this is no event of ours.
const LONGEST_EVENT = 16 * 1024 * 1024;
// The service is heard of every 15 s, if only to say that it is there.
const SILENCE_MS = 50_000;

export class Service {
  constructor(private readonly _settings: ServerConnection.ISettings) {}

  run(id: string, signal?: AbortSignal): Promise<Run> {
    return this._json<Run>(path(id), { signal });
  }

  /** At most about so many points of each metric, its extremes among them. */
  metrics(id: string, points: number, signal?: AbortSignal): Promise<Metrics> {
    return this._json<Metrics>(`${path(id)}/metrics?points=${points}`, {
      signal
    });
  }

  /** The last bytes of the log, from a line's start. */
  logTail(id: string, bytes: number, signal?: AbortSignal): Promise<LogChunk> {
    return this._json<LogChunk>(`${path(id)}/logs?tail=${bytes}`, { signal });
  }

  cancel(id: string): Promise<Run> {
    return this._json<Run>(`${path(id)}/cancel`, { method: 'POST' });
  }

  /** A new run, from the last checkpoint of this one; the same one for the same `once`. */
  resume(id: string, once: string): Promise<Run> {
    return this._json<Run>(`${path(id)}/resume`, {
      method: 'POST',
      headers: { [ONCE]: once }
    });
  }

  runLineage(id: string, signal?: AbortSignal): Promise<Lineage> {
    return this._json<Lineage>(`${path(id)}/lineage`, { signal });
  }

  me(signal?: AbortSignal): Promise<Me> {
    return this._json<Me>('me', { signal });
  }

  runs(query: Query, signal?: AbortSignal): Promise<Page<Run>> {
    return this._json<Page<Run>>(`runs${asked(query)}`, { signal });
  }

  datasets(query: Query, signal?: AbortSignal): Promise<Page<Dataset>> {
    return this._json<Page<Dataset>>(`datasets${asked(query)}`, { signal });
  }

  dataset(
    owner: string,
    name: string,
    query: Query,
    signal?: AbortSignal
  ): Promise<Dataset> {
    const at = place('datasets', owner, name);
    return this._json<Dataset>(`${at}${asked(query)}`, { signal });
  }

  datasetVersions(
    owner: string,
    name: string,
    query: Query,
    signal?: AbortSignal
  ): Promise<Page<DatasetVersion>> {
    const at = place('datasets', owner, name);
    return this._json(`${at}/versions${asked(query)}`, { signal });
  }

  /** `n` rows from `offset` on, as JSON values. */
  preview(
    owner: string,
    name: string,
    query: Query,
    signal?: AbortSignal
  ): Promise<Preview> {
    const at = place('datasets', owner, name);
    return this._json<Preview>(`${at}/preview${asked(query)}`, { signal });
  }

  profile(
    owner: string,
    name: string,
    query: Query,
    signal?: AbortSignal
  ): Promise<ProfileStatus> {
    const at = place('datasets', owner, name);
    return this._json(`${at}/profile${asked(query)}`, { signal });
  }

  models(query: Query, signal?: AbortSignal): Promise<Page<Model>> {
    return this._json<Page<Model>>(`models${asked(query)}`, { signal });
  }

  model(
    owner: string,
    name: string,
    query: Query,
    signal?: AbortSignal
  ): Promise<Model> {
    const at = place('models', owner, name);
    return this._json<Model>(`${at}${asked(query)}`, { signal });
  }

  endpoints(query: Query, signal?: AbortSignal): Promise<Page<Endpoint>> {
    return this._json<Page<Endpoint>>(`endpoints${asked(query)}`, { signal });
  }

  endpoint(
    owner: string,
    name: string,
    signal?: AbortSignal
  ): Promise<Endpoint> {
    return this._json<Endpoint>(place('endpoints', owner, name), { signal });
  }

  statistics(
    owner: string,
    name: string,
    signal?: AbortSignal
  ): Promise<{ versions: VersionStatistics[] }> {
    const at = place('endpoints', owner, name);
    return this._json(`${at}/statistics`, { signal });
  }

  drift(
    owner: string,
    name: string,
    signal?: AbortSignal
  ): Promise<{ versions: VersionDrift[] }> {
    return this._json(`${place('endpoints', owner, name)}/drift`, { signal });
  }

  /** Say what is to become of an endpoint's requests. Throws `ServiceError`. */
  change(
    owner: string,
    name: string,
    what: 'promote' | 'rollback' | 'retire'
  ): Promise<Endpoint> {
    const at = place('endpoints', owner, name);
    return what === 'retire'
      ? this._json<Endpoint>(at, { method: 'DELETE' })
      : this._json<Endpoint>(`${at}/${what}`, { method: 'POST' });
  }

  /** Version → percent of the requests, together 100. */
  setTraffic(
    owner: string,
    name: string,
    traffic: Record<string, number>
  ): Promise<Endpoint> {
    const at = place('endpoints', owner, name);
    return this._json<Endpoint>(`${at}/traffic`, posted({ traffic }));
  }

  endpointLineage(
    owner: string,
    name: string,
    signal?: AbortSignal
  ): Promise<Lineage> {
    const at = place('endpoints', owner, name);
    return this._json<Lineage>(`${at}/lineage`, { signal });
  }

  keys(
    owner: string,
    name: string,
    query: Query,
    signal?: AbortSignal
  ): Promise<Page<Key>> {
    const at = place('endpoints', owner, name);
    return this._json<Page<Key>>(`${at}/keys${asked(query)}`, { signal });
  }

  /** The same one for the same `once`. */
  createKey(
    owner: string,
    name: string,
    key: { note: string; expires_in_days: number },
    once: string
  ): Promise<Key> {
    const at = place('endpoints', owner, name);
    return this._json<Key>(`${at}/keys`, posted(key, { [ONCE]: once }));
  }

  revokeKey(owner: string, name: string, id: string): Promise<Key> {
    const at = `${place('endpoints', owner, name)}/keys`;
    return this._json<Key>(`${at}/${encodeURIComponent(id)}`, {
      method: 'DELETE'
    });
  }

  trial(owner: string, name: string, signal?: AbortSignal): Promise<Trial> {
    const at = place('endpoints', owner, name);
    return this._json<Trial>(`${at}/trial`, { signal });
  }

  ask(owner: string, name: string, question: Question): Promise<TrialAnswer> {
    const at = place('endpoints', owner, name);
    return this._json<TrialAnswer>(`${at}/trial`, posted(question));
  }

  /** What happens to a run from there on. That it ends says nothing about the run. */
  async *events(
    id: string,
    from: { metricsSince: number; logOffset: number },
    signal: AbortSignal
  ): AsyncGenerator<RunEvent> {
    const silence = new AbortController();
    const query = `metrics_since=${from.metricsSince}&log_offset=${from.logOffset}`;
    const response = await this._request(`${path(id)}/events?${query}`, {
      signal: AbortSignal.any([signal, silence.signal])
    });
    if (!response.body) {
      return;
    }
    const arrived: RunEvent[] = [];
    const parser = createParser({
      maxBufferSize: LONGEST_EVENT,
      onEvent: ({ event, data }) => {
        // An event of a newer service is none of ours.
        if (event !== undefined && NAMES.has(event)) {
          arrived.push({ name: event, data: JSON.parse(data) } as RunEvent);
        }
      }
    });
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    try {
      for (;;) {
        const timer = setTimeout(() => silence.abort(), SILENCE_MS);
        const { done, value } = await reader
          .read()
          .finally(() => clearTimeout(timer));
        if (done) {
          return;
        }
        parser.feed(decoder.decode(value, { stream: true }));
        yield* arrived.splice(0);
      }
    } finally {
      // Also when nobody reads on: the connection is one of the few that a browser has.
      void reader.cancel().catch(() => undefined);
    }
  }

  private async _json<T>(path: string, init: RequestInit): Promise<T> {
    const response = await this._request(path, init);
    try {
      return (await response.json()) as T;
    } catch {
      throw new ServiceError('The answer broke off.', 'Try again.', 0);
    }
  }

  private async _request(path: string, init: RequestInit): Promise<Response> {
    const url = URLExt.join(this._settings.baseUrl, 'aiaas/api/v1', path);
    let response: Response;
    try {
      response = await ServerConnection.makeRequest(url, init, this._settings);
    } catch (error) {
      throw new ServiceError(
        'Your notebook server cannot be reached.',
        'Check that it is running.',
        0
      );
    }
    if (!response.ok) {
      throw await refusal(response);
    }
    return response;
  }
}

async function refusal(response: Response): Promise<ServiceError> {
  // In the platform's own shape, or in Jupyter's.
  const body = await response.json().catch(() => ({}));
  const { message, remedy } = body.error ?? body;
  return new ServiceError(
    typeof message === 'string' ? message : `HTTP ${response.status}`,
    typeof remedy === 'string' ? remedy : '',
    response.status
  );
}

function posted(
  body: unknown,
  headers: Record<string, string> = {}
): RequestInit {
  return {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', ...headers },
    body: JSON.stringify(body)
  };
}

function path(id: string): string {
  return `runs/${encodeURIComponent(id)}`;
}

function place(kind: string, owner: string, name: string): string {
  return `${kind}/${encodeURIComponent(owner)}/${encodeURIComponent(name)}`;
}

function asked(query: Query): string {
  const given = Object.entries(query).filter(
    ([, value]) => value !== undefined && value !== ''
  );
  return given.length
    ? `?${new URLSearchParams(given.map(([name, value]) => [name, String(value)]))}`
    : '';
}
