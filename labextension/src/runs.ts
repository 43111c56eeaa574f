/** Runs as this page knows them: each is followed once, however many outputs show it. */

import { Token } from '@lumino/coreutils';
import { DisposableDelegate, IDisposable } from '@lumino/disposable';
import { ISignal, Signal } from '@lumino/signaling';

import { Curves } from './curves';
import { LogTail } from './logTail';
import { Service, ServiceError } from './service';
import { isOver, Run } from './wire';

/** Everything of this page that knows runs. */
export interface IRuns {
  readonly service: Service;
  /** The one model of a run; it is idle until somebody watches it. */
  get(id: string): RunModel;
  /** A run of this page was heard of. */
  readonly heard: ISignal<IRuns, Run>;
}

export const IRuns = new Token<IRuns>(
  '@aiaas-hub/labextension:IRuns',
  'Runs of the platform, each followed once per page.'
);

const ID = /^[a-z0-9][a-z0-9-]{0,63}$/;

/** Whether this can be a run's id: notebooks come from anywhere. */
export function isRunId(value: unknown): value is string {
  return typeof value === 'string' && ID.test(value);
}

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 15_000;
const POLL_MS = 5_000;
// A browser has six connections to a server, and notebooks need some of them.
const MOST_STREAMS = 3;
const PLOT_POINTS = 500;
const LOG_BYTES = 16_384;

export class Runs implements IRuns {
  constructor(readonly service: Service) {}

  get(id: string): RunModel {
    let model = this._models.get(id);
    if (!model) {
      model = new RunModel(id, this.service, this._streams);
      this._models.set(id, model);
      model.changed.connect(({ run }) => {
        if (run) {
          this._heard.emit(run);
        }
      });
    }
    return model;
  }

  get heard(): ISignal<this, Run> {
    return this._heard;
  }

  private readonly _heard = new Signal<this, Run>(this);
  private readonly _models = new Map<string, RunModel>();
  private readonly _streams = { open: 0 };
}

/** What is known of one run, kept up to date for as long as somebody watches. */
export class RunModel {
  constructor(
    readonly id: string,
    private readonly _service: Service,
    private readonly _streams: { open: number }
  ) {}

  /** Null until the service has told. */
  run: Run | null = null;
  curves = new Curves();
  log = new LogTail();
  /** Why nothing new is heard. */
  trouble: ServiceError | null = null;

  get changed(): ISignal<this, void> {
    return this._changed;
  }

  get isOver(): boolean {
    return this.run !== null && isOver(this.run);
  }

  /** Follow the run until it is over or every watcher has been disposed of. */
  watch(): IDisposable {
    this._watchers += 1;
    if (this._watchers === 1) {
      this._left = new AbortController();
      void this._follow(this._left.signal);
    }
    return new DisposableDelegate(() => {
      this._watchers -= 1;
      if (this._watchers === 0) {
        this._left.abort();
      }
    });
  }

  /** Ask the run to stop. Throws `ServiceError`. */
  async cancel(): Promise<void> {
    this.run = await this._service.cancel(this.id);
    this._changed.emit();
  }

  private async _follow(left: AbortSignal): Promise<void> {
    let pause = FIRST_PAUSE_MS;
    while (!left.aborted && !this._complete) {
      try {
        if (await this._hear(left)) {
          pause = FIRST_PAUSE_MS;
        } else {
          pause = POLL_MS;
        }
      } catch (error) {
        if (left.aborted) {
          return;
        }
        this.trouble =
          error instanceof ServiceError
            ? error
            : new ServiceError('The connection broke off.', '', 0);
        this._changed.emit();
        if (this.trouble.isFinal) {
          return;
        }
        pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
      }
      if (!this._complete) {
        await sleep(pause, left);
      }
    }
  }

  /** Read what is there and then what comes; false: too many others listen. */
  private async _hear(left: AbortSignal): Promise<boolean> {
    await this._load(left);
    if (this._complete) {
      return true;
    }
    if (this._streams.open >= MOST_STREAMS) {
      return false;
    }
    this._streams.open += 1;
    try {
      const from = { metricsSince: this._since, logOffset: this._offset };
      for await (const event of this._service.events(this.id, from, left)) {
        switch (event.name) {
          case 'run':
            this.run = event.data;
            break;
          case 'end':
            this.run = event.data;
            this._complete = isOver(event.data);
            break;
          case 'metrics':
            this.curves.add(event.data.points);
            break;
          case 'log':
            this.log.add(event.data.text);
            break;
        }
        this._changed.emit();
      }
    } finally {
      this._streams.open -= 1;
    }
    return true;
  }

  private async _load(left: AbortSignal): Promise<void> {
    // The run first: what it reported before it ended is then among the rest.
    const run = await this._service.run(this.id, left);
    const [metrics, log] = await Promise.all([
      this._service.metrics(this.id, PLOT_POINTS, left),
      this._service.logTail(this.id, LOG_BYTES, left)
    ]);
    this.run = run;
    this.curves = new Curves();
    this.curves.add(metrics.points);
    this.log = new LogTail();
    this.log.add(log.text);
    this._since = metrics.next_since;
    this._offset = log.next_offset;
    this._complete = isOver(run);
    this.trouble = null;
    this._changed.emit();
  }

  private readonly _changed = new Signal<this, void>(this);
  private _watchers = 0;
  private _left = new AbortController();
  private _since = 0;
  private _offset = 0;
  private _complete = false;
}

/** Longer or shorter by chance: many outputs need not ask at the same moment. */
function sleep(ms: number, left: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    const timer = setTimeout(resolve, ms * (0.75 + Math.random() / 2));
    left.addEventListener('abort', () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
