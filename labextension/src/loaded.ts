/** What a view shows of the service: read as it is opened, and again while it is looked at. */

import * as React from 'react';

import { asServiceError, ServiceError } from './serviceError';

export interface Loaded<T> {
  value: T | null;
  trouble: ServiceError | null;
  again: () => void;
  /** Instead of reading it: what an action answered. */
  set: (value: T) => void;
}

/**
 * Read again whenever `what` changes, whenever the view is shown, and every so many seconds while
 * it is; 0: never of itself.
 */
export function useLoaded<T>(
  read: (signal: AbortSignal) => Promise<T>,
  what: string,
  isShown: boolean,
  seconds: number
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
    if (!isShown || seconds === 0) {
      return;
    }
    const next = (): void => {
      if (!document.hidden) {
        setTurn(turn => turn + 1);
      }
    };
    const timer = window.setInterval(next, seconds * 1000);
    document.addEventListener('visibilitychange', next);
    return () => {
      window.clearInterval(timer);
      document.removeEventListener('visibilitychange', next);
    };
  }, [isShown, seconds]);
  const isOther = state.of !== what;
  return {
    value: isOther ? null : state.value,
    trouble: isOther ? null : state.trouble,
    again: () => setTurn(turn => turn + 1),
    set: value => setState({ of: what, value, trouble: null })
  };
}
