import * as React from 'react';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';

import { RunModel } from '../src/runs';
import { RunView } from '../src/runView';
import { ServiceError } from '../src/serviceError';
import type { Run } from '../src/wire';
import { FollowedRuns } from './following';
import { TestPage } from './page';
import { HOSTILE, run, trans } from './standins';

const page = new TestPage();
let model: RunModel;
let cancelled: number;

beforeEach(() => {
  model = new RunModel('run-1', new FollowedRuns().service, { open: 0 });
  cancelled = 0;
});

afterEach(() => {
  vi.useRealTimers();
});

const show = (now: Run): Promise<void> =>
  page.show(
    <RunView
      model={model}
      run={now}
      trans={trans}
      cancel={() => (cancelled += 1)}
    />
  );

const ago = (seconds: number): string =>
  new Date(Date.now() - seconds * 1000).toISOString();

test('who waits is told why, and what to do', async () => {
  await show(
    run('run-1', {
      state: 'queued',
      created_at: ago(75),
      started_at: null,
      finished_at: null,
      queue: {
        position: 3,
        blocked_by: 'Two GPUs are taken.',
        remedy: 'Ask for one.'
      }
    })
  );
  expect(page.node.querySelector('[role=status]')?.textContent).toBe('queued');
  expect(page.text).toContain(
    'Place 3 in the queue. Two GPUs are taken. Ask for one.'
  );
  expect(page.text).toContain('waited 1 min 15 s');
  expect(page.text).not.toContain('ran ');
  expect(page.node.querySelector('progress')).toBeNull();
  expect(await page.violations()).toEqual([]);
});

test('who trains sees how far it is, how long it takes, and on what', async () => {
  vi.useFakeTimers({ toFake: ['Date'] });
  model.curves.add([{ step: 25, values: { loss: 0.123456, 'val/loss': 2 } }]);
  await show(
    run('run-1', {
      state: 'running',
      attempt: 2,
      created_at: ago(70),
      started_at: ago(60),
      finished_at: null,
      progress: { step: 25, total: 100 },
      usage: [
        {
          worker: 0,
          host: HOSTILE,
          cpu_percent: 51.4,
          memory_bytes: 512 * 2 ** 20,
          memory_total_bytes: 2 * 2 ** 30,
          gpu_percent: 97.6,
          gpu_memory_bytes: 1
        },
        {
          worker: 1,
          host: 'b',
          cpu_percent: 0,
          memory_bytes: 0,
          memory_total_bytes: 2 ** 30,
          gpu_percent: null,
          gpu_memory_bytes: null
        }
      ]
    })
  );
  const bar = page.node.querySelector('progress')!;
  expect([bar.value, bar.max]).toEqual([25, 100]);
  expect(page.text).toContain(
    'step 25 of 100 · about 3 min 0 s left · loss 0.1235 · val/loss 2'
  );
  expect(page.text).toContain('waited 10 s · ran 1 min 0 s · attempt 2');
  const workers = [...page.node.querySelectorAll('li')];
  expect(workers.map(one => one.textContent)).toEqual([
    `worker 0 on ${HOSTILE} · CPU 51 % · memory 512.0 MiB of 2.0 GiB · GPU 98 % · GPU memory 1 B`,
    'worker 1 on b · CPU 0 % · memory 0 B of 1.0 GiB'
  ]);
  // Two curves of one metric are one picture.
  const plots = [...page.node.querySelectorAll('svg')];
  expect(plots.map(one => one.getAttribute('aria-label'))).toEqual([
    'loss by step, to step 25: loss 0.1235, val 2'
  ]);
  expect(page.node.querySelector('img')).toBeNull();
  vi.useRealTimers();
  expect(await page.violations()).toEqual([]);
});

test('without a total nobody guesses when it ends', async () => {
  await show(
    run('run-1', {
      state: 'running',
      finished_at: null,
      progress: { step: 7, total: null }
    })
  );
  expect(page.text).toContain('step 7');
  expect(page.text).not.toContain('left');
  expect(page.node.querySelector('progress')).toBeNull();
});

test('what goes on can be cancelled, what is over cannot', async () => {
  await show(run('run-1', { state: 'running', name: 'digits' }));
  await page.click('Cancel run digits · run-1');
  expect(cancelled).toBe(1);
  await show(run('run-1', { usage: [] }));
  expect(page.node.querySelector('button')).toBeNull();
});

test('why it failed is said, and its traceback is text', async () => {
  model.log.add(`\x1b[31m${HOSTILE}\x1b[0m\n`);
  await show(
    run('run-1', {
      name: HOSTILE,
      state: 'failed',
      error: {
        message: `\x1b[1m${HOSTILE}`,
        remedy: 'Mend line 3.',
        traceback: `line 1\n\x1b[31m${HOSTILE}`
      }
    })
  );
  expect(page.node.querySelector('img')).toBeNull();
  expect(page.node.querySelector('header b')?.textContent).toBe(
    `${HOSTILE} · run-1`
  );
  const shown = page.node.querySelector('.jp-aiaas-error')!;
  expect(shown.textContent).toContain(`${HOSTILE}Mend line 3.`);
  const blocks = [...page.node.querySelectorAll('pre')];
  expect(blocks.map(one => one.getAttribute('aria-label'))).toEqual([
    'Traceback',
    'Log'
  ]);
  expect(blocks.map(one => one.textContent)).toEqual([
    `line 1\n${HOSTILE}`,
    HOSTILE
  ]);
  expect(await page.violations()).toEqual([]);
});

test('names of metrics are text', async () => {
  model.curves.add([{ step: 1, values: { [HOSTILE]: 1, '\u202eevil': 2 } }]);
  await show(run('run-1', { state: 'running' }));
  expect(page.node.querySelector('img')).toBeNull();
  expect(page.text).toContain(`${HOSTILE} 1`);
  expect(page.text).not.toContain('\u202e');
});

test('while nobody answers it says so, and keeps what it shows', async () => {
  model.trouble = new ServiceError('The connection broke off.', '', 0);
  await show(run('run-1', { state: 'running' }));
  expect(page.text).toContain('The connection broke off. Trying again.');
  expect(page.text).toContain('running');
});
