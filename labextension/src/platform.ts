/** What this page knows of the platform: who I am, the four lists, and which runs are live. */

import { Token } from '@lumino/coreutils';
import { DisposableDelegate, IDisposable } from '@lumino/disposable';
import { ISignal, Signal } from '@lumino/signaling';

import { Listing } from './listing';
import type { IRuns } from './runs';
import type { Service } from './service';
import { ServiceError } from './serviceError';
import { Dataset, Endpoint, isOver, isSettled, Me, Model, Run } from './wire';

export const IPlatform = new Token<Platform>(
  '@aiaas-hub/labextension:IPlatform',
  'Datasets, runs, models and endpoints, as the panel shows them.'
);

// Where nothing goes on, one thing a tick: never more than a request in ten seconds.
const IDLE_MS = 60_000;
/** What was read a moment ago is fresh enough for somebody who only looks. */
const FRESH_MS = 5_000;
const MOST_ASKED_ALONE = 3;

type Part = 'me' | 'datasets' | 'runs' | 'models' | 'endpoints';

interface Turn {
  /** Of a view's: none. */
  part?: Part;
  at: number;
  read: () => Promise<void>;
}

export class Platform {
  constructor(
    readonly service: Service,
    heard: IRuns['heard'] | null = null,
    private readonly _now: () => number = Date.now
  ) {
    this.runs.changed.connect(() => this._watch(this.runs.all));
    heard?.connect((_, run) => this._hear(run));
  }

  me: Me | null = null;
  /** Why nothing is known. */
  trouble: ServiceError | null = null;

  readonly datasets = new Listing<Dataset>({
    ask: (query, signal) => this.service.datasets(query, signal),
    keyOf: one => `${one.owner}/${one.name}`
  });
  readonly runs = new Listing<Run>({
    ask: ({ cursor, limit }, signal) =>
      this.service.runs({ cursor, limit }, signal),
    keyOf: one => one.id,
    wordsOf: one => `${one.name} ${one.id} ${one.state}`
  });
  readonly models = new Listing<Model>({
    ask: ({ cursor, limit }, signal) =>
      this.service.models({ cursor, limit }, signal),
    keyOf: one => `${one.owner}/${one.name}`,
    wordsOf: one => `${one.name} ${Object.keys(one.aliases).join(' ')}`
  });
  readonly endpoints = new Listing<Endpoint>({
    ask: ({ cursor, limit }, signal) =>
      this.service.endpoints({ cursor, limit }, signal),
    keyOf: one => `${one.owner}/${one.name}`,
    wordsOf: one => `${one.name} ${one.state}`
  });

  get changed(): ISignal<this, void> {
    return this._changed;
  }

  /** A run that was seen going is over. */
  get runEnded(): ISignal<this, Run> {
    return this._runEnded;
  }

  /** Whether somebody looks at the lists. */
  isShown = false;

  /** Runs that were seen going. */
  get liveRuns(): number {
    return Math.max(this._live.size, this.me?.live_runs ?? 0);
  }

  /** All of it again, at once. */
  async refresh(): Promise<void> {
    const me = this._readMe();
    // Whoever was answered a while ago need not wait for this answer first.
    if (!this.me || this.trouble) {
      await me;
      if (this.trouble) {
        return;
      }
    }
    const lists = (['datasets', 'runs', 'models', 'endpoints'] as const).map(
      part => this._readList(part)
    );
    await Promise.all([me, ...lists]);
  }

  /** As somebody comes to look: what is not fresh. */
  async show(): Promise<void> {
    this.isShown = true;
    if (this._now() - this._readAt('runs') > FRESH_MS) {
      await this.refresh();
    }
  }

  hide(): void {
    this.isShown = false;
  }

  /**
   * Call it in turn with the lists, each of them once in a minute at most: what a view shows, and
   * does not change of itself.
   */
  inTurn(read: () => void): IDisposable {
    this._inTurn.set(read, this._now());
    return new DisposableDelegate(() => this._inTurn.delete(read));
  }

  /**
   * What it is time for. Throws `ServiceError` where the platform does not answer: whoever calls
   * this regularly then waits for longer.
   */
  async tick(): Promise<void> {
    const now = this._now();
    if (this.trouble || !this.me) {
      await this._readMe();
      if (this.trouble) {
        throw this.trouble;
      }
      if (this.isShown) {
        await this.refresh();
      }
      return;
    }
    const lively = this._lively();
    for (const part of lively) {
      await this._readPart(part);
    }
    const idle = this._turns()
      .filter(({ at, part }) => now - at >= IDLE_MS && !lively.includes(part!))
      .sort((a, b) => a.at - b.at)
      .slice(0, lively.length ? undefined : 1);
    for (const { read } of idle) {
      await read();
    }
    await this._askAlone();
    if (this.trouble) {
      throw this.trouble;
    }
  }

  private _parts(): Part[] {
    return this.isShown
      ? ['me', 'runs', 'datasets', 'models', 'endpoints']
      : ['me'];
  }

  /** Whatever is read once in a while, and when it last was. */
  private _turns(): Turn[] {
    const lists = this._parts().map(part => ({
      part,
      at: this._readAt(part),
      read: () => this._readPart(part)
    }));
    const views = [...this._inTurn].map(([read, at]) => ({
      at,
      read: async () => {
        this._inTurn.set(read, this._now());
        read();
      }
    }));
    return [...lists, ...views];
  }

  /** What changes of itself: worth a look at each tick. */
  private _lively(): Part[] {
    const parts: Part[] = [];
    if (this._live.size || (this.me?.live_runs ?? 0) > 0) {
      parts.push('runs');
    }
    if (this.isShown && this.endpoints.all.some(one => !isSettled(one))) {
      parts.push('endpoints');
    }
    return parts;
  }

  private _readPart(part: Part): Promise<void> {
    return part === 'me' ? this._readMe() : this._readList(part);
  }

  private async _readMe(): Promise<void> {
    this._read.set('me', this._now());
    try {
      this.me = await this.service.me();
      this.trouble = null;
    } catch (error) {
      this.trouble = why(error);
    }
    this._changed.emit();
  }

  private async _readList(part: Exclude<Part, 'me'>): Promise<void> {
    this._read.set(part, this._now());
    await this[part].refresh();
  }

  private _readAt(part: Part): number {
    return this._read.get(part) ?? -Infinity;
  }

  private _hear(run: Run): void {
    // Somebody else's run in somebody else's notebook is none of this list.
    if (run.kind === 'trial' || (this.me && run.owner !== this.me.user)) {
      return;
    }
    const [newest] = this.runs.all;
    this.runs.put(run, !newest || run.created_at > newest.created_at);
    this._watch([run]);
  }

  private _watch(runs: readonly Run[]): void {
    const ended: Run[] = [];
    for (const run of runs) {
      if (!isOver(run)) {
        this._live.add(run.id);
      } else if (this._live.delete(run.id)) {
        ended.push(run);
      }
    }
    if (ended.length) {
      // What it held is free again, and its model is there.
      this._read.delete('me');
      this._read.delete('models');
    }
    ended.forEach(run => this._runEnded.emit(run));
    this._changed.emit();
  }

  /** Runs that go on, and are older than what the list was read of. */
  private async _askAlone(): Promise<void> {
    const listed = new Set(this.runs.all.map(run => run.id));
    const missing = [...this._live].filter(id => !listed.has(id));
    for (const id of missing.slice(0, MOST_ASKED_ALONE)) {
      try {
        this._watch([await this.service.run(id)]);
      } catch (error) {
        if (error instanceof ServiceError && error.isFinal) {
          this._live.delete(id);
        }
      }
    }
  }

  private readonly _changed = new Signal<this, void>(this);
  private readonly _runEnded = new Signal<this, Run>(this);
  private readonly _live = new Set<string>();
  private readonly _read = new Map<Part, number>();
  private readonly _inTurn = new Map<() => void, number>();
}

function why(error: unknown): ServiceError {
  if (!(error instanceof ServiceError)) {
    return new ServiceError('The answer was not understood.', 'Try again.', 0);
  }
  // Jupyter's own "not found" names no remedy: nobody was there to ask the platform.
  return error.status === 404 && !error.remedy
    ? new ServiceError(
        'This notebook server does not have the AIaaS server extension.',
        "Type 'jupyter server extension enable aiaas_magics.lab' and start it again.",
        404
      )
    : error;
}
