/** What a view shows of the service: read as it is opened, and again while it is looked at. */

import { DisposableDelegate, IDisposable } from '@lumino/disposable';
import * as React from 'react';

import { asServiceError, ServiceError } from './serviceError';

export interface Loaded<T> {
  value: T | null;
  trouble: ServiceError | null;
  again: () => void;
  /** Instead of reading it: what an action answered. */
  set: (value: T) => void;
}

/** Who has what does not change of itself read again in turn, where nothing else is read. */
export interface Turns {
  inTurn(read: () => void): IDisposable;
}

/**
 * Read again whenever `what` changes, whenever the view is shown, and while it is every so many
 * seconds, or when it is its turn; 0: never of itself.
 */
export function useLoaded<T>(
  read: (signal: AbortSignal) => Promise<T>,
  what: string,
  isShown: boolean,
  rhythm: number | Turns
): Loaded<T> {
  const [state, setState] = React.useState<{
    of: string;
    value: T | null;
    trouble: ServiceError | null;
  }>({ of: what, value: null, trouble: null });
  const [turn, setTurn] = React.useState(0);
  const latest = React.useRef(read);
  latest.current = read;
  React.useEffect(() => {
    if (!isShown) {
      return;
    }
    const left = new AbortController();
    latest.current(left.signal).then(
      value => {
        if (!left.signal.aborted) {
          setState({ of: what, value, trouble: null });
        }
      },
      (error: unknown) => {
        if (!left.signal.aborted) {
          const trouble = asServiceError(error);
          // What was read before stays in sight.
          setState(old => ({
            of: what,
            value: old.of === what ? old.value : null,
            trouble
          }));
        }
      }
    );
    return () => left.abort();
  }, [what, isShown, turn]);
  React.useEffect(() => {
    if (!isShown || rhythm === 0) {
      return;
    }
    const next = (): void => {
      if (!document.hidden) {
        setTurn(turn => turn + 1);
      }
    };
    const again =
      typeof rhythm === 'number' ? every(rhythm, next) : rhythm.inTurn(next);
    document.addEventListener('visibilitychange', next);
    return () => {
      again.dispose();
      document.removeEventListener('visibilitychange', next);
    };
  }, [isShown, rhythm]);
  const isOther = state.of !== what;
  return {
    value: isOther ? null : state.value,
    trouble: isOther ? null : state.trouble,
    again: () => setTurn(turn => turn + 1),
    set: value => setState({ of: what, value, trouble: null })
  };
}

function every(seconds: number, call: () => void): IDisposable {
  const timer = window.setInterval(call, seconds * 1000);
  return new DisposableDelegate(() => window.clearInterval(timer));
}
