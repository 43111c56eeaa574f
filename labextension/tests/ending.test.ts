import { expect, test } from 'vitest';

import { LOOK_MS, untilDue, warning } from '../src/ending';
import { trans } from './standins';

test('nothing is said of a server that goes on', () => {
  expect(warning({ seconds_left: null }, trans)).toBeNull();
  const far = { seconds_left: 601, warn_seconds: 600, why: 'idle' } as const;
  expect(warning(far, trans)).toBeNull();
});

test('an idle server can be kept, one at the end of its life only saved', () => {
  const idle = { seconds_left: 119, warn_seconds: 600, why: 'idle' } as const;
  expect(warning(idle, trans)).toContain('it stops in 2 minutes.');
  const old = { seconds_left: 60, warn_seconds: 600, why: 'lifetime' } as const;
  expect(warning(old, trans)).toContain('less than a minute, whatever runs');
});

test('a page looks again when the warning is due', () => {
  const soon = { seconds_left: 612, warn_seconds: 600, why: 'idle' } as const;
  expect(untilDue(soon)).toBe(12_000);
  expect(untilDue({ ...soon, seconds_left: 9_999 })).toBe(LOOK_MS);
  expect(untilDue({ ...soon, seconds_left: 600 })).toBeGreaterThan(0);
});
