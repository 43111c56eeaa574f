/** The last lines of a log, as text that obeys nothing that is written in it. */

const MOST_LINES = 200;
const LONGEST_LINE = 2000;
// Escape sequences, and control characters save the tab: a terminal would obey them, and some of
// them turn the direction of what follows.
const ESCAPES =
  // eslint-disable-next-line no-control-regex
  /\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]+[0-~]|[@-_])/g;
const CONTROLS =
  // eslint-disable-next-line no-control-regex
  /[\x00-\x08\x0a-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/g;

export class LogTail {
  add(text: string): void {
    const lines = (this._partial + text).split('\n');
    this._partial = (lines.pop() ?? '').slice(-LONGEST_LINE);
    this._lines.push(...lines.slice(-MOST_LINES).map(clean));
    this._lines.splice(0, this._lines.length - MOST_LINES);
  }

  get text(): string {
    const partial = clean(this._partial);
    return [...this._lines, ...(partial ? [partial] : [])].join('\n');
  }

  private readonly _lines: string[] = [];
  private _partial = '';
}

/** A progress bar writes its line again and again, each time after a return. */
function clean(line: string): string {
  const shown = line.replace(/\r+$/, '');
  return plain(shown.slice(shown.lastIndexOf('\r') + 1)).slice(0, LONGEST_LINE);
}

/** Without escape sequences and control characters. */
export function plain(text: string): string {
  return text.replace(ESCAPES, '').replace(CONTROLS, '');
}
