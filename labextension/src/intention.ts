/** What somebody wants done once, however often it has to be said. */

import { UUID } from '@lumino/coreutils';
import * as React from 'react';

/**
 * The key that goes with a change as its `Idempotency-Key`: two clicks, and a repeat of what nobody
 * answered, are the same change; another body, or one after it was done, is another.
 */
export class Intention {
  keyOf(what: string): string {
    if (this._what !== what) {
      this._what = what;
      this._key = UUID.uuid4();
    }
    return this._key;
  }

  /** It was done: whoever wants it again wants another. */
  done(): void {
    this._what = null;
  }

  private _what: string | null = null;
  private _key = '';
}

export function useIntention(): Intention {
  return React.useState(() => new Intention())[0];
}
