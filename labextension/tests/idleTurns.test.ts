import { expect, test } from 'vitest';

import { Platform } from '../src/platform';
import { run, StandInService } from './standins';

const TICK_MS = 10_000;

test('views and lists are read in turn: one of them in ten seconds', async () => {
  let now = 0;
  const service = new StandInService();
  const platform = new Platform(service.service, null, () => now);
  await platform.show();
  const read = (what: string) => () => void service.asked.push(what);
  const views = ['endpoint', 'statistics', 'drift'].map(what =>
    platform.inTurn(read(what))
  );
  const byTick: string[][] = [];
  const minutes = async (many: number): Promise<void> => {
    for (let tick = 0; tick < 6 * many; tick++) {
      now += TICK_MS;
      const before = service.asked.length;
      await platform.tick();
      byTick.push(service.asked.slice(before));
    }
  };
  await minutes(4);
  expect(Math.max(...byTick.map(asked => asked.length))).toBe(1);
  // And each of them has its turn, none much more often than another.
  const often = new Map<string, number>();
  byTick.flat().forEach(one => often.set(one, 1 + (often.get(one) ?? 0)));
  expect([...often.keys()].sort()).toEqual([
    'datasets 0',
    'drift',
    'endpoint',
    'endpoints 0',
    'me',
    'models 0',
    'runs 0',
    'statistics'
  ]);
  expect(Math.max(...often.values())).toBeLessThanOrEqual(3);
  expect(Math.min(...often.values())).toBeGreaterThanOrEqual(2);

  views.forEach(one => one.dispose());
  byTick.length = 0;
  await minutes(3);
  expect(byTick.flat()).not.toContain('drift');
});

test('a run that goes on is asked for at each tick, whatever has its turn', async () => {
  let now = 0;
  const service = new StandInService();
  service.runs_ = [run('run-a', { state: 'running', finished_at: null })];
  const platform = new Platform(service.service, null, () => now);
  await platform.show();
  platform.inTurn(() => void service.asked.push('drift'));
  service.asked = [];
  for (let tick = 0; tick < 6; tick++) {
    now += TICK_MS;
    await platform.tick();
  }
  expect(service.asked.filter(one => one === 'runs 0')).toHaveLength(6);
  expect(service.asked.filter(one => one === 'drift')).toHaveLength(1);
});
