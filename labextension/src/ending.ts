/** What is told of the end of a server. */

import { TranslationBundle } from '@jupyterlab/translation';

export interface Ending {
  /** Null: this server is not stopped by itself. */
  seconds_left: number | null;
  warn_seconds?: number;
  why?: 'idle' | 'lifetime';
}

export const LOOK_MS = 30_000;
const SOON_MS = 1_000;

/** Milliseconds until it is worth looking again: the warning comes when it is due. */
export function untilDue(ending: Ending): number {
  const ahead = (ending.seconds_left ?? Infinity) - (ending.warn_seconds ?? 0);
  return Math.min(LOOK_MS, Math.max(SOON_MS, 1000 * ahead));
}

/** Whether it is time to tell, and what. */
export function warning(
  ending: Ending,
  trans: TranslationBundle
): string | null {
  const { seconds_left: left, warn_seconds: warn, why } = ending;
  if (left === null || left > (warn ?? 0)) {
    return null;
  }
  const minutes = Math.ceil(left / 60);
  const time =
    left <= 60
      ? trans.__('less than a minute')
      : trans._n('%1 minute', '%1 minutes', minutes);
  return why === 'idle'
    ? trans.__(
        'Nobody has worked in this server for a while: it stops in %1. Runs go on without it; what its kernels hold in memory is lost.',
        time
      )
    : trans.__(
        'This server has reached its longest life: it stops in %1, whatever runs in it. Save your work and start it again; runs go on without it.',
        time
      );
}
