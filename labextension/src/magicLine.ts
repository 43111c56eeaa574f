/** A line of `%aiaas`, and what each part of it is. */

export type Part = 'magic' | 'verb' | 'option' | 'value' | 'filled';

/** From one place of the line up to another. */
export interface Piece {
  part: Part;
  from: number;
  to: number;
}

const MAGIC = /^\s*(%{1,2}aiaas)(?=\s|$)/;
const OPTION = /^--?[A-Za-z][^=]*/;

/** Nothing for a line that is none; `%%aiaas` is one only where its cell begins. */
export function piecesOf(line: string, beginsCell: boolean): Piece[] {
  const magic = MAGIC.exec(line)?.[1];
  if (magic === undefined || (magic.startsWith('%%') && !beginsCell)) {
    return [];
  }
  const begin = line.indexOf(magic);
  let at = begin + magic.length;
  const pieces: Piece[] = [{ part: 'magic', from: begin, to: at }];
  let isFirst = true;
  while (at < line.length) {
    if (/\s/.test(line.charAt(at))) {
      at += 1;
      continue;
    }
    const word = wordAt(line, at);
    pieces.push(...piecesOfWord(line, at, word, isFirst));
    isFirst = false;
    at = word.to;
  }
  return pieces;
}

/** Whether what stands below the line is SQL. */
export function isSql(line: string): boolean {
  return /^\s*%%aiaas\s+sql(\s|$)/.test(line);
}

interface Word {
  to: number;
  /** Its `{expressions}`. */
  filled: [from: number, to: number][];
}

/** Up to a blank that neither quotes nor braces hold, as `aiaas_magics/parsing.py` reads it. */
function wordAt(line: string, from: number): Word {
  const filled: Word['filled'] = [];
  let quote = '';
  let at = from;
  while (at < line.length && (quote || !/\s/.test(line.charAt(at)))) {
    const char = line.charAt(at);
    const end = char === '{' ? closing(line, at) : null;
    if (['{{', '}}'].includes(line.slice(at, at + 2))) {
      at += 2;
    } else if (end !== null) {
      filled.push([at, end]);
      at = end;
    } else {
      if (quote) {
        quote = char === quote ? '' : quote;
      } else if (char === '"' || char === "'") {
        quote = char;
      }
      at += 1;
    }
  }
  return { to: at, filled };
}

/** Behind the brace that closes the one here. */
function closing(line: string, from: number): number | null {
  let depth = 0;
  for (let at = from; at < line.length; at++) {
    const char = line.charAt(at);
    depth += char === '{' ? 1 : char === '}' ? -1 : 0;
    if (depth === 0) {
      return at + 1;
    }
  }
  return null;
}

function piecesOfWord(
  line: string,
  from: number,
  { to, filled }: Word,
  isFirst: boolean
): Piece[] {
  const pieces: Piece[] = [];
  const add = (part: Part, from: number, to: number): void => {
    if (from < to) {
      pieces.push({ part, from, to });
    }
  };
  const option = OPTION.exec(line.slice(from, filled[0]?.[0] ?? to));
  let at = from;
  if (option && !isFirst) {
    at += option[0].length;
    add('option', from, at);
  }
  const rest: Part = isFirst ? 'verb' : 'value';
  for (const [begin, end] of filled) {
    add(rest, at, begin);
    add('filled', begin, end);
    at = end;
  }
  add(rest, at, to);
  return pieces;
}
