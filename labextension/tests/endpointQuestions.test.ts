import { beforeEach, expect, test, vi } from 'vitest';

import { isShareConfirmed } from '../src/endpointQuestions';
import { endpoint, trans } from './standins';

interface Asked {
  title: string;
  body: string;
}

const answer = vi.hoisted(() => ({ accept: false, asked: [] as Asked[] }));
vi.mock('@jupyterlab/apputils', () => ({
  Dialog: {
    cancelButton: () => ({}),
    okButton: () => ({}),
    warnButton: () => ({})
  },
  showDialog: async ({ title, body }: Asked) => {
    answer.asked.push({ title, body });
    return { button: { accept: answer.accept } };
  }
}));

beforeEach(() => {
  answer.asked = [];
});

const digits = endpoint('digits', { traffic: { '1': 80, '2': 20 } });
const confirmed = (older: number): Promise<boolean> =>
  isShareConfirmed({ '1': older, '2': 100 - older }, digits, trans);

test.each([
  [0, 2],
  [100, 1]
])('who leaves %i %% to the older one is asked first', async (older, all) => {
  answer.accept = false;
  expect(await confirmed(older)).toBe(false);
  answer.accept = true;
  expect(await confirmed(older)).toBe(true);
  expect(answer.asked).toHaveLength(2);
  expect(answer.asked[0]).toEqual({
    title: 'Set the traffic of digits?',
    body: `Version ${all} gets all requests at once.`
  });
});

test.each([1, 99])('while both answer nobody is asked: %i %%', async older => {
  expect(await confirmed(older)).toBe(true);
  expect(answer.asked).toEqual([]);
});
