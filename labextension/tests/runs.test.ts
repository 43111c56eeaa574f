import { afterEach, beforeEach, expect, test, vi } from 'vitest';

import { isRunId, Runs } from '../src/runs';
import { ServiceError } from '../src/serviceError';
import type { Run } from '../src/wire';
import { FollowedRuns } from './following';
import { run } from './standins';

const going = (id: string): Run => run(id, { state: 'running' });
/** What was begun goes on, as far as it comes without a clock. */
const settle = (): Promise<unknown> => vi.advanceTimersByTimeAsync(0);

beforeEach(() => {
  vi.useFakeTimers();
});

afterEach(() => {
  vi.useRealTimers();
});

test('a run is followed once, however many look, and until it ends', async () => {
  const service = new FollowedRuns(going('run-1'));
  service.metrics_ = {
    points: [{ step: 1, values: { loss: 3 } }],
    next_since: 7
  };
  service.log_ = { text: 'before\n', next_offset: 70 };
  const runs = new Runs(service.service);
  const heard: string[] = [];
  runs.heard.connect((_, { state }) => heard.push(state));
  const model = runs.get('run-1');
  expect(runs.get('run-1')).toBe(model);
  model.watch();
  model.watch();
  await settle();
  // What comes begins where what was read ended.
  expect(service.asked).toEqual([
    'run run-1',
    'metrics run-1',
    'log run-1',
    'events run-1 7 70'
  ]);
  service.send(
    {
      name: 'metrics',
      data: { points: [{ step: 2, values: { loss: 2 } }], next_since: 8 }
    },
    { name: 'log', data: { text: 'after\n', next_offset: 77 } },
    { name: 'end', data: run('run-1') }
  );
  await settle();
  service.breakOff();
  await settle();
  expect(model.isOver).toBe(true);
  expect(model.curves.last).toEqual([['loss', 2]]);
  expect(model.log.text).toBe('before\nafter');
  expect([heard[0], heard[heard.length - 1]]).toEqual(['running', 'succeeded']);
  const asked = service.asked.length;
  await vi.advanceTimersByTimeAsync(120_000);
  expect(service.asked).toHaveLength(asked);
});

test('nobody looks any more: nothing is asked, until somebody looks again', async () => {
  const service = new FollowedRuns(going('run-1'));
  const model = new Runs(service.service).get('run-1');
  const first = model.watch();
  const second = model.watch();
  await settle();
  first.dispose();
  await settle();
  expect(service.streams.size).toBe(1);
  second.dispose();
  // Twice is once.
  second.dispose();
  await settle();
  expect(service.streams.size).toBe(0);
  service.asked = [];
  await vi.advanceTimersByTimeAsync(120_000);
  expect(service.asked).toEqual([]);
  expect(model.trouble).toBeNull();
  model.watch();
  await settle();
  expect(service.asked[0]).toBe('run run-1');
  expect(service.streams.size).toBe(1);
});

test('a connection that breaks off is made again', async () => {
  const service = new FollowedRuns(going('run-1'));
  const model = new Runs(service.service).get('run-1');
  model.watch();
  await settle();
  service.breakOff();
  await settle();
  expect(model.trouble?.message).toBe('The connection broke off.');
  await vi.advanceTimersByTimeAsync(2_000);
  expect(model.trouble).toBeNull();
  expect(service.streams.size).toBe(1);
});

test('who does not answer is asked later and later, a refusal is the last word', async () => {
  const service = new FollowedRuns(going('run-1'));
  const model = new Runs(service.service).get('run-1');
  service.refusal = new ServiceError('Nobody answered.', 'Try again.', 0);
  model.watch();
  await vi.advanceTimersByTimeAsync(60_000);
  const first = service.asked.length;
  expect(first).toBeGreaterThan(4);
  expect(first).toBeLessThan(12);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(service.asked.length - first).toBeLessThanOrEqual(6);
  service.refusal = new ServiceError('No such run.', 'See %aiaas runs.', 404);
  await vi.advanceTimersByTimeAsync(30_000);
  expect(model.trouble?.remedy).toBe('See %aiaas runs.');
  service.asked = [];
  await vi.advanceTimersByTimeAsync(120_000);
  expect(service.asked).toEqual([]);
});

test('a browser keeps connections for others: a fourth run is asked about', async () => {
  const ids = ['run-1', 'run-2', 'run-3', 'run-4'];
  const service = new FollowedRuns(...ids.map(going));
  const runs = new Runs(service.service);
  ids.forEach(id => runs.get(id).watch());
  await settle();
  expect(service.streams.size).toBe(3);
  service.runs.set('run-4', run('run-4'));
  await vi.advanceTimersByTimeAsync(10_000);
  expect(runs.get('run-4').isOver).toBe(true);
});

test('a cancelled run is so at once, a refusal is told', async () => {
  const service = new FollowedRuns(going('run-1'));
  const model = new Runs(service.service).get('run-1');
  await model.cancel();
  expect(model.run?.state).toBe('cancelled');
  service.refusal = new ServiceError('It is over.', '', 409);
  await expect(model.cancel()).rejects.toThrow('It is over.');
});

test('what is no id of a run is asked for by nobody', () => {
  expect(isRunId('run-1')).toBe(true);
  for (const id of ['', '../me', 'run-1?x', '-a', 'A', 'a'.repeat(65), 7]) {
    expect(isRunId(id), String(id)).toBe(false);
  }
});
