/** Amounts and times, as people say them. */

import { TranslationBundle } from '@jupyterlab/translation';

export function count(number: number): string {
  return number.toLocaleString();
}

export function size(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB'];
  let amount = bytes;
  for (const unit of units) {
    if (amount < 1024) {
      return `${amount.toFixed(unit === 'B' ? 0 : 1)} ${unit}`;
    }
    amount /= 1024;
  }
  return `${amount.toFixed(1)} TiB`;
}

export function duration(seconds: number, trans: TranslationBundle): string {
  // Two clocks are compared: a little less than nothing is nothing.
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) {
    return trans.__('%1 s', whole);
  }
  const minutes = Math.floor(whole / 60);
  return minutes < 60
    ? trans.__('%1 min %2 s', minutes, whole % 60)
    : trans.__('%1 h %2 min', Math.floor(minutes / 60), minutes % 60);
}

/** Exact today, the day before that: one unit is enough for a list. */
export function ago(time: string, trans: TranslationBundle): string {
  const seconds = Math.max(0, (Date.now() - Date.parse(time)) / 1000);
  if (seconds < 60) {
    return trans.__('just now');
  }
  if (seconds < 3600) {
    return trans.__('%1 min ago', Math.floor(seconds / 60));
  }
  if (seconds < 86_400) {
    return trans.__('%1 h ago', Math.floor(seconds / 3600));
  }
  return new Date(time).toLocaleDateString();
}

export function day(time: string): string {
  return new Date(time).toLocaleString();
}

const LONGEST_CELL = 200;

/** A JSON value of a table's cell, as text. */
export function cell(value: unknown): string {
  if (value === null || value === undefined) {
    return '';
  }
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return text.length > LONGEST_CELL ? `${text.slice(0, LONGEST_CELL)}…` : text;
}
