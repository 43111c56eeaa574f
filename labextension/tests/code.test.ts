import { expect, test } from 'vitest';

import * as code from '../src/code';

test('names are words, whoever chose them', () => {
  expect(code.load('eve/flowers@2', 'flowers')).toBe(
    '%aiaas load eve/flowers@2 --into flowers'
  );
  expect(code.word(`eve<'&">/x`)).toBe(`'eve<'"'"'&">/x'`);
  expect(code.word('a b; rm')).toBe(`'a b; rm'`);
});

test('no name begins a line of code, or is evaluated in one', () => {
  const inserted = code.preview('eve\nimport os/x');
  expect(inserted.split('\n')).toHaveLength(1);
  // What turns the direction of a line would show another one than is run.
  expect(code.load('a\u202eb/x', 'x')).toBe(`%aiaas load 'a b/x' --into x`);
  // In a magic's line braces hold expressions, save where they are doubled.
  expect(code.preview('{boom}/x')).toBe(`%aiaas preview '{{boom}}/x'`);
});

test('what is loaded gets a name that Python has', () => {
  expect(code.variable('my-data.v2')).toBe('my_data_v2');
  expect(code.variable('2024')).toBe('_2024');
});

test('mine has my name left out', () => {
  const thing = { owner: 'eve', name: 'flowers' };
  expect(code.reference(thing, 'eve')).toBe('flowers');
  expect(code.reference(thing, 'bob')).toBe('eve/flowers');
});

test('code that is inserted has lines of its own', () => {
  expect(code.placed('%aiaas', '', '')).toBe('%aiaas');
  expect(code.placed('%aiaas', '  ', ' ')).toBe('%aiaas');
  expect(code.placed('%aiaas', 'x = 1', '')).toBe('\n%aiaas');
  expect(code.placed('%aiaas', 'x = ', '1')).toBe('\n%aiaas\n');
});
