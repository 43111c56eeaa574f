import { expect, test } from 'vitest';

import * as code from '../src/code';
import { kinds } from '../src/kinds';
import { Platform } from '../src/platform';
import { StandInService, trans } from './standins';

test('nothing that is inserted where there is nothing holds a mark for more', () => {
  const all = kinds(new Platform(new StandInService().service), trans);
  for (const { emptyCode } of all) {
    expect(emptyCode).toMatch(/^[\x20-\x7e\n]+$/);
  }
  expect(all.map(({ emptyCode }) => emptyCode)).toContain(code.EXAMPLE);
});

test('the line that deploys is of the newest model, or of the one of the example', () => {
  const others = { owner: 'bob', name: 'digits' };
  expect(code.deploy(others, 'eve')).toBe(
    '%aiaas publish digits --model bob/digits'
  );
  expect(code.EXAMPLE).toContain('--name my-model\n');
  expect(code.deploy(undefined, 'eve')).toBe(
    '%aiaas publish my-model --model my-model'
  );
});
