/** A service that answers from lists, and what else a view needs. */

import { TranslationBundle } from '@jupyterlab/translation';

import type { Actions } from '../src/actions';
import type { Thing } from '../src/kinds';
import type { Service } from '../src/service';
import { ServiceError } from '../src/serviceError';
import type {
  Dataset,
  Endpoint,
  Key,
  Lineage,
  Me,
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
} from '../src/wire';

export const HOSTILE = '<img src=x onerror=alert(1)>';
const AT = '2026-01-02T03:04:05Z';

/** English, with its numbered places filled in. */
export const trans = {
  __: (text: string, ...values: unknown[]) => fill(text, values),
  _n: (one: string, many: string, n: number, ...values: unknown[]) =>
    fill(n === 1 ? one : many, [n, ...values])
} as unknown as TranslationBundle;

function fill(text: string, values: unknown[]): string {
  return text.replace(/%(\d+)/g, (_, i: string) => String(values[+i - 1]));
}

export function me(more: Partial<Me> = {}): Me {
  return {
    user: 'eve',
    live_runs: 0,
    serving_endpoints: 0,
    quota: null,
    allowances: [],
    ...more
  };
}

export function run(id: string, more: Partial<Run> = {}): Run {
  return {
    id,
    owner: 'eve',
    name: `name-of-${id}`,
    state: 'succeeded',
    reason: '',
    attempt: 1,
    kind: 'train',
    datasets: [],
    model: null,
    created_at: AT,
    started_at: AT,
    finished_at: AT,
    error: null,
    ...more
  };
}

export function dataset(name: string, more: Partial<Dataset> = {}): Dataset {
  return {
    owner: 'eve',
    name,
    description: '',
    licence: '',
    tags: [],
    visibility: 'private',
    group: null,
    updated_at: AT,
    latest: {
      version: 2,
      created_at: AT,
      format: 'parquet',
      size: 2048,
      rows: 120,
      columns: [{ name: 'pixels', type: 'list<item: float>', nullable: true }],
      source: 'upload',
      tags: [],
      retired: false
    },
    ...more
  };
}

export function model(name: string, more: Partial<Model> = {}): Model {
  return {
    owner: 'eve',
    name,
    updated_at: AT,
    aliases: { champion: 2 },
    latest: {
      version: 2,
      created_at: AT,
      signature: {
        inputs: [{ name: 'x', dtype: 'float32', shape: [64, null] }],
        outputs: [{ name: 'y', dtype: 'float32', shape: [10] }],
        labels: null
      },
      size: 1024,
      export_max_abs: 1.5e-7,
      framework: 'torch 2',
      run_id: 'run-1',
      card: { description: '', licence: '', metrics: {} }
    },
    ...more
  };
}

export function endpoint(name: string, more: Partial<Endpoint> = {}): Endpoint {
  return {
    owner: 'eve',
    name,
    state: 'serving',
    traffic: { '2': 100 },
    former: { '1': 100 },
    sleep: null,
    versions: [
      {
        version: 2,
        model: { owner: 'eve', name: 'digits', version: 3 },
        state: 'serving',
        created_at: AT,
        created_by: 'eve',
        parity: { max_abs: 1e-6, rows: 360, p50_ms: 2, p99_ms: 5 },
        plan: null,
        routed_at: AT,
        reason: '',
        error: ''
      }
    ],
    signature: null,
    url: 'http://gateway/eve/digits',
    updated_at: AT,
    ...more
  };
}

export function key(id: string, more: Partial<Key> = {}): Key {
  return {
    id,
    note: '',
    scope: 'infer',
    created_at: AT,
    expires_at: '2999-01-01T00:00:00Z',
    revoked_at: null,
    token: null,
    ...more
  };
}

interface Asked {
  search?: string;
  cursor?: string;
  limit: number;
}

export class StandInService {
  me_ = me();
  runs_: Run[] = [];
  datasets_: Dataset[] = [];
  models_: Model[] = [];
  endpoints_: Endpoint[] = [];
  statistics_: VersionStatistics[] = [];
  drift_: VersionDrift[] = [];
  preview_: Preview = {
    columns: [],
    rows: [],
    total_rows: 0,
    offset: 0,
    truncated: false
  };
  keys_: Key[] = [];
  lineage_: Lineage = {
    endpoint: null,
    endpoint_version: null,
    model: null,
    run: null,
    datasets: []
  };
  trial_: Trial = {
    takes: '',
    takes_text: false,
    sample: '',
    picture: null,
    programs: {}
  };
  answer_: TrialAnswer = { titles: [], lines: [], said: '', seen: '' };
  /** What was asked for, in order. */
  asked: string[] = [];
  /** The keys of what is to be done once, in order. */
  once: string[] = [];
  /** What everything is answered with instead. */
  refusal: ServiceError | null = null;

  get service(): Service {
    return this as unknown as Service;
  }

  me = (): Promise<Me> => this._answer('me', this.me_);
  runs = (query: Asked): Promise<Page<Run>> => this._page('runs', query);
  models = (query: Asked): Promise<Page<Model>> => this._page('models', query);
  endpoints = (query: Asked): Promise<Page<Endpoint>> =>
    this._page('endpoints', query);
  datasets = (query: Asked): Promise<Page<Dataset>> =>
    this._page('datasets', query);
  run = (id: string): Promise<Run> =>
    this._answer(
      `run ${id}`,
      this.runs_.find(one => one.id === id)!
    );
  dataset = (owner: string, name: string): Promise<Dataset> =>
    this._answer(
      `dataset ${owner}/${name}`,
      this.datasets_.find(one => one.name === name)!
    );
  datasetVersions = (): Promise<unknown> =>
    this._answer('versions', { items: [], next_cursor: null });
  preview = (_: string, __: string, query: { offset: number }) =>
    this._answer(`preview ${query.offset}`, {
      ...this.preview_,
      offset: query.offset
    });
  profile_: ProfileStatus = {
    state: 'none',
    done: 0,
    total: 0,
    error: '',
    profile: null
  };
  profile = (): Promise<ProfileStatus> =>
    this._answer('profile', this.profile_);
  model = (
    owner: string,
    name: string,
    { version }: { version?: number }
  ): Promise<Model> => {
    const found = this.models_.find(one => one.name === name)!;
    return this._answer(`model ${owner}/${name}@${version ?? ''}`, {
      ...found,
      latest: { ...found.latest, version: version ?? found.latest.version }
    });
  };
  endpoint = (_: string, name: string): Promise<Endpoint> =>
    this._answer(
      `endpoint ${name}`,
      this.endpoints_.find(one => one.name === name)!
    );
  statistics = (): Promise<unknown> =>
    this._answer('statistics', { versions: this.statistics_ });
  drift = (): Promise<unknown> =>
    this._answer('drift', { versions: this.drift_ });
  change = (_: string, name: string, what: string): Promise<Endpoint> =>
    this._answer(
      `${what} ${name}`,
      this.endpoints_.find(one => one.name === name)!
    );

  setTraffic = (_: string, name: string, traffic: unknown): Promise<Endpoint> =>
    this._answer(
      `traffic ${JSON.stringify(traffic)}`,
      this.endpoints_.find(one => one.name === name)!
    );
  keys = (): Promise<Page<Key>> =>
    this._answer('keys', { items: this.keys_, next_cursor: null });
  createKey = (
    _: string,
    __: string,
    asked: { note: string },
    once: string
  ): Promise<Key> => {
    this.once.push(once);
    const made = key('new', { note: asked.note });
    this.keys_ = [made, ...this.keys_.filter(one => one.id !== made.id)];
    return this._answer(`key ${JSON.stringify(asked)}`, {
      ...made,
      token: 'the-secret'
    });
  };
  revokeKey = (_: string, __: string, id: string): Promise<Key> => {
    this.keys_ = this.keys_.map(one =>
      one.id === id ? { ...one, revoked_at: AT } : one
    );
    return this._answer(`revoke ${id}`, key(id));
  };
  trial = (): Promise<Trial> => this._answer('trial', this.trial_);
  ask = (_: string, __: string, { text, picture, version }: Question) =>
    this._answer(
      `ask ${version}: ${text ?? JSON.stringify(picture)}`,
      this.answer_
    );
  endpointLineage = (): Promise<Lineage> =>
    this._answer('lineage', this.lineage_);
  runLineage = (): Promise<Lineage> => this._answer('lineage', this.lineage_);
  resume = (id: string, once: string): Promise<Run> => {
    this.once.push(once);
    return this._answer(`resume ${id}`, run('run-next'));
  };

  private async _page<T>(
    kind: 'runs' | 'datasets' | 'models' | 'endpoints',
    { search, cursor, limit }: Asked
  ): Promise<Page<T>> {
    const all = (this[`${kind}_`] as { name: string }[]).filter(
      one => !search || one.name.includes(search)
    );
    const from = Number(cursor ?? 0);
    return this._answer(`${kind} ${from}`, {
      items: all.slice(from, from + limit) as T[],
      next_cursor: from + limit < all.length ? String(from + limit) : null
    });
  }

  private async _answer<T>(what: string, answer: T): Promise<T> {
    this.asked.push(what);
    await Promise.resolve();
    if (this.refusal) {
      throw this.refusal;
    }
    return answer;
  }
}

export class StandInActions implements Actions {
  opened: Thing[] = [];
  inserted: string[] = [];
  copied: string[] = [];
  open = (thing: Thing): void => void this.opened.push(thing);
  insert = (code: string): void => void this.inserted.push(code);
  copy = (code: string): void => void this.copied.push(code);
}
