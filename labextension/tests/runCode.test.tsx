import * as React from 'react';
import { act } from 'react';
import { createRoot } from 'react-dom/client';
import { expect, test, vi } from 'vitest';

import { Runs } from '../src/runs';
import { RunView } from '../src/runView';
import { Run, WorkerUsage } from '../src/wire';
import { run, StandInService, trans } from './standins';

const sample: WorkerUsage = {
  worker: 0,
  host: 'gpu-1',
  cpu_percent: 90,
  memory_bytes: 1 << 30,
  memory_total_bytes: 8 * (1 << 30),
  gpu_percent: null,
  gpu_memory_bytes: null
};

function shown(record: Run): string {
  vi.stubGlobal('IS_REACT_ACT_ENVIRONMENT', true);
  const page = document.body.appendChild(document.createElement('main'));
  const root = createRoot(page);
  const model = new Runs(new StandInService().service).get(record.id);
  act(() =>
    root.render(
      <RunView
        model={model}
        run={record}
        trans={trans}
        cancel={() => undefined}
      />
    )
  );
  const text = page.textContent ?? '';
  act(() => root.unmount());
  page.remove();
  return text;
}

const used = (more: Partial<WorkerUsage>): string =>
  shown(run('run-1', { state: 'running', usage: [{ ...sample, ...more }] }));

test('what is known of a GPU does not wait for the rest', () => {
  expect(used({})).not.toContain('GPU');
  expect(used({ gpu_memory_bytes: 2 * (1 << 30) })).toMatch(
    /GPU memory 2(\.0)? GiB/
  );
  expect(used({ gpu_percent: 55 })).toContain('GPU 55 %');
  expect(used({ gpu_percent: 55, gpu_memory_bytes: 1 << 30 })).toMatch(
    /GPU 55 % · GPU memory 1(\.0)? GiB/
  );
});

test('a run that goes on after a death says why', () => {
  const reason = 'Worker 0 died: its machine went away. Going on.';
  expect(shown(run('run-1', { state: 'running', reason }))).toContain(reason);
});
