/** A service that has one run, or a few, and sends of them what a test says. */

import type { RunEvent, Service } from '../src/service';
import { ServiceError } from '../src/serviceError';
import type { LogChunk, Metrics, Run } from '../src/wire';

export class FollowedRuns {
  constructor(...runs: Run[]) {
    runs.forEach(run => this.runs.set(run.id, run));
  }

  readonly runs = new Map<string, Run>();
  metrics_: Metrics = { points: [], next_since: 0 };
  log_: LogChunk = { text: '', next_offset: 0 };
  /** What was asked for, in order. */
  asked: string[] = [];
  /** What everything is answered with instead. */
  refusal: ServiceError | null = null;
  /** Whoever listens, and to which run. */
  readonly streams = new Map<
    ReadableStreamDefaultController<RunEvent>,
    string
  >();

  get service(): Service {
    return this as unknown as Service;
  }

  send(...events: RunEvent[]): void {
    for (const stream of this.streams.keys()) {
      events.forEach(event => stream.enqueue(event));
    }
  }

  breakOff(): void {
    [...this.streams.keys()].forEach(stream =>
      stream.error(new TypeError('network'))
    );
  }

  run = (id: string): Promise<Run> =>
    this._answer(`run ${id}`, this.runs.get(id)!);
  metrics = (id: string): Promise<Metrics> =>
    this._answer(`metrics ${id}`, this.metrics_);
  logTail = (id: string): Promise<LogChunk> =>
    this._answer(`log ${id}`, this.log_);
  cancel = (id: string): Promise<Run> =>
    this._answer(`cancel ${id}`, {
      ...this.runs.get(id)!,
      state: 'cancelled'
    });

  async *events(
    id: string,
    from: { metricsSince: number; logOffset: number },
    signal: AbortSignal
  ): AsyncGenerator<RunEvent> {
    let stream!: ReadableStreamDefaultController<RunEvent>;
    const sent = new ReadableStream<RunEvent>({
      start: made => void (stream = made)
    }).getReader();
    signal.addEventListener('abort', () => stream.error(signal.reason));
    this.asked.push(`events ${id} ${from.metricsSince} ${from.logOffset}`);
    this.streams.set(stream, id);
    try {
      for (;;) {
        const { done, value } = await sent.read();
        if (done) {
          return;
        }
        yield value;
      }
    } finally {
      this.streams.delete(stream);
    }
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
