import { Signal } from '@lumino/signaling';
import { expect, test } from 'vitest';

import { Platform } from '../src/platform';
import type { IRuns } from '../src/runs';
import { ServiceError } from '../src/serviceError';
import type { Run } from '../src/wire';
import { endpoint, me, run, StandInService } from './standins';

const TICK = 10_000;

function world(): {
  service: StandInService;
  platform: Platform;
  tick: () => Promise<string[]>;
  hear: (run: Run) => void;
} {
  const service = new StandInService();
  let now = 1_000_000;
  const heard = new Signal<IRuns, Run>({} as IRuns);
  const platform = new Platform(service.service, heard, () => now);
  return {
    service,
    platform,
    tick: async () => {
      now += TICK;
      service.asked = [];
      await platform.tick();
      return service.asked;
    },
    hear: run => heard.emit(run)
  };
}

test('idle, it asks one thing every ten seconds at most, and all in turn', async () => {
  const { platform, tick } = world();
  await platform.show();
  const seen = new Set<string>();
  for (let i = 0; i < 14; i++) {
    const asked = await tick();
    expect(asked.length).toBeLessThanOrEqual(1);
    asked.forEach(one => seen.add(one.split(' ')[0]!));
  }
  expect([...seen].sort()).toEqual([
    'datasets',
    'endpoints',
    'me',
    'models',
    'runs'
  ]);
});

test('where nobody looks at the panel, only the status bar is kept', async () => {
  const { platform, tick } = world();
  await platform.show();
  platform.hide();
  const asked: string[] = [];
  for (let i = 0; i < 14; i++) {
    asked.push(...(await tick()));
  }
  expect(new Set(asked)).toEqual(new Set(['me']));
  expect(asked.length).toBeLessThanOrEqual(3);
});

test('a run that goes on is looked at each time, and its end is told once', async () => {
  const { service, platform, tick } = world();
  const ended: string[] = [];
  platform.runEnded.connect((_, run) => ended.push(run.id));
  // Over before anybody looked: no news.
  service.runs_ = [run('run-b', { state: 'running' }), run('run-a')];
  await platform.show();
  expect(ended).toEqual([]);
  platform.hide();
  expect(await tick()).toContain('runs 0');
  expect(platform.liveRuns).toBe(1);
  service.runs_[0] = run('run-b', { state: 'failed' });
  await tick();
  await tick();
  expect(ended).toEqual(['run-b']);
  expect(platform.liveRuns).toBe(0);
});

test('an endpoint on its way is looked at each time', async () => {
  const { service, platform, tick } = world();
  service.endpoints_ = [endpoint('digits', { state: 'verifying' })];
  await platform.show();
  expect(await tick()).toContain('endpoints 0');
  expect(await tick()).toContain('endpoints 0');
});

test('what a cell hears of a run is in the list at once', async () => {
  const { service, platform, hear } = world();
  service.runs_ = [run('run-a')];
  await platform.show();
  const later = '2027-01-01T00:00:00Z';
  hear(run('run-b', { state: 'running', created_at: later }));
  hear(run('run-theirs', { owner: 'bob', created_at: later }));
  hear(run('run-trial', { kind: 'trial', created_at: later }));
  hear(run('run-b', { state: 'succeeded', created_at: later }));
  expect(platform.runs.items.map(one => [one.id, one.state])).toEqual([
    ['run-b', 'succeeded'],
    ['run-a', 'succeeded']
  ]);
});

test('a long list does not hide the end of an old run', async () => {
  const { service, platform, tick, hear } = world();
  service.runs_ = Array.from({ length: 60 }, (_, i) => run(`run-${i}`));
  await platform.show();
  hear(run('run-59', { state: 'running', created_at: '2020-01-01T00:00:00Z' }));
  const ended: string[] = [];
  platform.runEnded.connect((_, run) => ended.push(run.id));
  expect(await tick()).toContain('run run-59');
  expect(ended).toEqual(['run-59']);
});

test('without a platform one thing is asked, and its remedy is kept', async () => {
  const { service, platform } = world();
  service.refusal = new ServiceError('AIAAS_URL is not set.', 'Set it.', 503);
  await platform.show();
  expect(service.asked).toEqual(['me']);
  expect(platform.trouble?.remedy).toBe('Set it.');
  // Whoever ticks waits for longer when it fails.
  await expect(platform.tick()).rejects.toThrow('AIAAS_URL');
  service.refusal = null;
  await platform.tick();
  expect(platform.trouble).toBeNull();
  expect(platform.datasets.isLoaded).toBe(true);
});

test('a notebook server without our extension is told from a service without an answer', async () => {
  const { service, platform } = world();
  service.refusal = new ServiceError('Not Found', '', 404);
  await platform.show();
  expect(platform.trouble?.remedy).toContain('aiaas_magics.lab');
  service.me_ = me();
});
