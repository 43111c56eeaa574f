import { expect, test } from 'vitest';

import { Curves, digits } from '../src/curves';

function added(...values: Record<string, number | string>[]): Curves {
  const curves = new Curves();
  curves.add(values.map((one, step) => ({ step, values: one })));
  return curves;
}

test('the phases of one metric share their axes', () => {
  const { panels } = added({
    loss: 1,
    train_loss: 2,
    'loss/val': 3,
    'test.accuracy': 0.5,
    retrain_loss: 4
  });
  expect(
    panels.map(({ title, curves }) => [title, curves.map(([label]) => label)])
  ).toEqual([
    ['loss', ['loss', 'train', 'val']],
    ['accuracy', ['test']],
    ['retrain_loss', ['retrain_loss']]
  ]);
});

test('what JSON has no number for is one, and no end of the curve', () => {
  const [panel] = added({ loss: 'nan' }, { loss: '-inf' }, { loss: 2 }).panels;
  expect(panel!.curves[0]![1].values).toEqual([NaN, -Infinity, 2]);
});

test('the counts of a table are no curves', () => {
  const curves = added({ 'confusion/0/1': 3, loss: 1 });
  expect(curves.last).toEqual([['loss', 1]]);
});

test('a metric whose name is one of JavaScript is one like any other', () => {
  const curves = added(JSON.parse('{"__proto__": 1, "constructor": 2}'));
  expect(curves.last).toEqual([
    ['__proto__', 1],
    ['constructor', 2]
  ]);
});

test('more metrics than anybody looks at are left out', () => {
  const names = Array.from({ length: 100 }, (_, i) => [`m${i}`, i]);
  expect(added(Object.fromEntries(names)).last).toHaveLength(60);
});

test('a long curve becomes thin, and keeps its ends and its peak', () => {
  const curves = new Curves();
  for (let step = 0; step < 50_000; step++) {
    const loss = step === 31_337 ? 9 : 1 / (step + 1);
    curves.add([{ step, values: { loss } }]);
  }
  const { steps, values } = curves.panels[0]!.curves[0]![1];
  expect(steps.length).toBeLessThanOrEqual(2000);
  expect(steps).toHaveLength(values.length);
  expect([...steps].sort((a, b) => a - b)).toEqual(steps);
  expect([steps[0], steps[steps.length - 1]]).toEqual([0, 49_999]);
  expect(steps[values.indexOf(9)]).toBe(31_337);
  expect(curves.lastStep).toBe(49_999);
});

test('four digits are enough', () => {
  expect(digits(0.123456)).toBe('0.1235');
  expect(digits(12_345_678)).toBe('12350000');
  expect(digits(1e-7)).toBe('1e-7');
  expect(digits(NaN)).toBe('NaN');
  expect(digits(-Infinity)).toBe('-∞');
});
