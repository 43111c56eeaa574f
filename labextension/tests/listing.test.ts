import { expect, test } from 'vitest';

import { Platform } from '../src/platform';
import { ServiceError } from '../src/serviceError';
import { dataset, run, StandInService } from './standins';

function many(count: number): StandInService {
  const service = new StandInService();
  service.runs_ = Array.from({ length: count }, (_, i) => run(`run-${i}`));
  service.datasets_ = Array.from({ length: count }, (_, i) =>
    dataset(`data-${i}`)
  );
  return service;
}

test('a list is read as far as it is scrolled', async () => {
  const service = many(120);
  const { runs } = new Platform(service.service);
  await runs.refresh();
  expect(runs.items).toHaveLength(50);
  expect(runs.hasMore).toBe(true);
  await runs.loadMore();
  await runs.loadMore();
  expect(runs.items).toHaveLength(120);
  expect(runs.hasMore).toBe(false);
  await runs.loadMore();
  expect(service.asked).toEqual(['runs 0', 'runs 50', 'runs 100']);
});

test('what is new comes first, and what was scrolled to stays', async () => {
  const service = many(120);
  const { runs } = new Platform(service.service);
  await runs.refresh();
  await runs.loadMore();
  service.runs_ = [
    run('run-new'),
    run('run-0', { state: 'failed' }),
    ...service.runs_.slice(1)
  ];
  await runs.refresh();
  expect(runs.items).toHaveLength(101);
  expect(runs.items[0]!.id).toBe('run-new');
  expect(runs.items[1]!.state).toBe('failed');
  expect(new Set(runs.items.map(one => one.id)).size).toBe(101);
});

test('what is gone is gone', async () => {
  const service = many(3);
  const { runs } = new Platform(service.service);
  await runs.refresh();
  service.runs_ = service.runs_.slice(1);
  await runs.refresh();
  expect(runs.items.map(one => one.id)).toEqual(['run-1', 'run-2']);
});

test('the service searches where it can', async () => {
  const service = many(120);
  const { datasets } = new Platform(service.service);
  await datasets.refresh();
  await datasets.setSearch(' data-119 ');
  expect(datasets.items.map(one => one.name)).toEqual(['data-119']);
  expect(datasets.hasMore).toBe(false);
});

test('the last search wins, however late another answers', async () => {
  const service = many(120);
  const { datasets: answer } = service;
  const { datasets } = new Platform(service.service);
  service.datasets = async query => {
    const page = await answer(query);
    if (query.search === 'data-7') {
      await new Promise(resolve => setTimeout(resolve, 50));
    }
    return page;
  };
  await Promise.all([
    datasets.setSearch('data-7'),
    datasets.setSearch('data-119')
  ]);
  expect(datasets.items.map(one => one.name)).toEqual(['data-119']);
  expect(datasets.isLoading).toBe(false);
});

test('where it cannot, pages are looked through, not all of them at once', async () => {
  const service = many(3000);
  const { runs } = new Platform(service.service);
  await runs.refresh();
  await runs.setSearch('run-60');
  expect(runs.items.map(one => one.id)).toEqual(['run-60']);
  await runs.setSearch('run-2999');
  expect(runs.items).toHaveLength(0);
  expect(runs.isPaused).toBe(true);
  const asked = service.asked.length;
  expect(asked).toBeLessThan(10);
  for (let i = 0; i < 5 && runs.isPaused; i++) {
    await runs.loadMore();
  }
  expect(runs.items.map(one => one.id)).toEqual(['run-2999']);
});

test('trouble is said, and what was read stays', async () => {
  const service = many(3);
  const { runs } = new Platform(service.service);
  await runs.refresh();
  service.refusal = new ServiceError('It is down.', 'Wait.', 503);
  await runs.refresh();
  expect(runs.trouble?.message).toBe('It is down.');
  expect(runs.items).toHaveLength(3);
  service.refusal = null;
  await runs.refresh();
  expect(runs.trouble).toBeNull();
});
