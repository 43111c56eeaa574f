/** A list of the service's as far as it was scrolled: searched, paged, and kept up to date. */

import { ISignal, Signal } from '@lumino/signaling';

import { ServiceError } from './serviceError';
import { Page } from './wire';

const PAGE = 50;
/** Where the service does not search, many are looked at for few that are found. */
const SIFTED_PAGE = 200;
const MOST_PAGES_AT_ONCE = 5;

export interface Source<T> {
  /** One page. Throws `ServiceError`. */
  ask(
    query: { search?: string; cursor?: string; limit: number },
    signal: AbortSignal
  ): Promise<Page<T>>;
  keyOf(item: T): string;
  /** What is searched in here; undefined: the service searches. */
  wordsOf?(item: T): string;
}

export class Listing<T> {
  constructor(private readonly _source: Source<T>) {}

  /** What is found, in the service's order. */
  get items(): readonly T[] {
    return this._found;
  }

  /** All that was read, found or not. */
  get all(): readonly T[] {
    return this._all;
  }

  keyOf(item: T): string {
    return this._source.keyOf(item);
  }

  /** Null until the first answer. */
  isLoaded = false;
  isLoading = false;
  trouble: ServiceError | null = null;
  /** So many were looked through without a find: whoever wants goes further. */
  isPaused = false;

  get hasMore(): boolean {
    return this._cursor !== null;
  }

  get search(): string {
    return this._search;
  }

  get changed(): ISignal<this, void> {
    return this._changed;
  }

  /** Look for something else. */
  async setSearch(text: string): Promise<void> {
    const search = text.trim();
    if (search === this._search) {
      return;
    }
    this._search = search;
    this.isPaused = false;
    if (this._source.wordsOf) {
      this._sift();
      this._changed.emit();
      if (!this._found.length && this.hasMore) {
        await this.loadMore();
      }
      return;
    }
    this._all = [];
    this._found = [];
    this._cursor = null;
    this.isLoaded = false;
    await this.refresh();
  }

  /** The newest ones again; what was read beyond them stays. */
  async refresh(): Promise<void> {
    await this._read(async signal => {
      const page = await this._page(null, PAGE, signal);
      const { keyOf } = this._source;
      const last = page.items[page.items.length - 1];
      const known =
        last === undefined
          ? -1
          : this._all.findIndex(item => keyOf(item) === keyOf(last));
      if (known < 0 || page.next_cursor === null) {
        this._all = page.items;
        this._cursor = page.next_cursor;
      } else {
        const anew = new Set(page.items.map(keyOf));
        const older = this._all.slice(known + 1);
        this._all = [
          ...page.items,
          ...older.filter(item => !anew.has(keyOf(item)))
        ];
      }
    });
  }

  /** The next ones, or with a search more until something is found. */
  async loadMore(): Promise<void> {
    if (this._cursor === null || this.isLoading) {
      return;
    }
    const before = this._found.length;
    await this._read(async signal => {
      const sifts = this._source.wordsOf && this._search !== '';
      const pages = sifts ? MOST_PAGES_AT_ONCE : 1;
      for (let i = 0; i < pages && this._cursor !== null; i++) {
        const limit = sifts ? SIFTED_PAGE : PAGE;
        const page = await this._page(this._cursor, limit, signal);
        const known = new Set(this._all.map(this._source.keyOf));
        this._all = [
          ...this._all,
          ...page.items.filter(item => !known.has(this._source.keyOf(item)))
        ];
        this._cursor = page.next_cursor;
        this._sift();
        if (this._found.length > before) {
          break;
        }
      }
    });
    this.isPaused = this.hasMore && this._found.length === before;
    this._changed.emit();
  }

  /** One that was heard of elsewhere: in its place, or before all others if it is `newest`. */
  put(item: T, newest: boolean): void {
    const key = this.keyOf(item);
    const known = this._all.findIndex(one => this.keyOf(one) === key);
    if (known >= 0) {
      this._all = this._all.map((one, i) => (i === known ? item : one));
    } else if (newest && this.isLoaded) {
      this._all = [item, ...this._all];
    } else {
      return;
    }
    this._sift();
    this._changed.emit();
  }

  private async _page(
    cursor: string | null,
    limit: number,
    signal: AbortSignal
  ): Promise<Page<T>> {
    const page = await this._source.ask(
      {
        search: this._source.wordsOf ? undefined : this._search || undefined,
        cursor: cursor ?? undefined,
        limit
      },
      signal
    );
    signal.throwIfAborted();
    return page;
  }

  /** The last reading wins: what an earlier one brings is of another search. */
  private async _read(
    read: (signal: AbortSignal) => Promise<void>
  ): Promise<void> {
    this._reading.abort();
    const reading = (this._reading = new AbortController());
    this.isLoading = true;
    this._changed.emit();
    try {
      await read(reading.signal);
      this.isLoaded = true;
      this.trouble = null;
    } catch (error) {
      if (reading.signal.aborted) {
        return;
      }
      this.trouble =
        error instanceof ServiceError
          ? error
          : new ServiceError('The answer was not understood.', 'Try again.', 0);
    }
    this.isLoading = false;
    this._sift();
    this._changed.emit();
  }

  private _sift(): void {
    const words = this._search.toLowerCase().split(/\s+/).filter(Boolean);
    const { wordsOf } = this._source;
    this._found =
      wordsOf && words.length
        ? this._all.filter(item => {
            const text = wordsOf(item).toLowerCase();
            return words.every(word => text.includes(word));
          })
        : this._all;
  }

  private readonly _changed = new Signal<this, void>(this);
  private _all: T[] = [];
  private _found: T[] = [];
  private _cursor: string | null = null;
  private _search = '';
  private _reading = new AbortController();
}
