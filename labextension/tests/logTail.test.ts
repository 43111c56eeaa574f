import { expect, test } from 'vitest';

import { LogTail, plain } from '../src/logTail';
import { HOSTILE } from './standins';

const ESC = '\x1b';

test.each([
  ['a colour', `${ESC}[1;31mred${ESC}[0m`, 'red'],
  ['256 colours', `${ESC}[38;5;208morange${ESC}[39m`, 'orange'],
  ['a cursor that moves', `a${ESC}[2K${ESC}[1Gb`, 'ab'],
  ['the end of all colours, as tput says it', `red${ESC}(B${ESC}[m`, 'red'],
  ['a title', `${ESC}]0;rm -rf\x07text`, 'text'],
  ['a link', `${ESC}]8;;http://evil${ESC}\\text${ESC}]8;;${ESC}\\`, 'text'],
  ['a bell and an end', 'a\x07\x00b', 'ab'],
  ['a turned direction', 'a\u202eb\u2066c', 'abc'],
  ['a tab', 'a\tb', 'a\tb'],
  ['markup', HOSTILE, HOSTILE]
])('%s is plain text', (_, text, shown) => {
  expect(plain(text)).toBe(shown);
});

test('a line that comes in parts is one, and its colours with it', () => {
  const log = new LogTail();
  log.add(`one\ntw${ESC}[3`);
  log.add('1mo\nthree');
  expect(log.text).toBe('one\ntwo\nthree');
});

test('of a progress bar the last state is shown', () => {
  const log = new LogTail();
  log.add('10 %\r50 %\r\n 60 %\r100 %\r');
  expect(log.text).toBe('50 %\n100 %');
});

test('of a long log the end is kept, of a long line the begin', () => {
  const log = new LogTail();
  log.add(Array.from({ length: 300 }, (_, i) => `line ${i}\n`).join(''));
  log.add(`${'x'.repeat(5000)}\n`);
  const lines = log.text.split('\n');
  expect(lines).toHaveLength(200);
  expect(lines[0]).toBe('line 101');
  expect(lines[199]).toBe('x'.repeat(2000));
});

test('a line without an end does not grow for ever', () => {
  const log = new LogTail();
  for (let i = 0; i < 100; i++) {
    log.add('y'.repeat(1000));
  }
  expect(log.text).toHaveLength(2000);
});
