/** Metrics as curves: values over steps, few enough to be kept and drawn. */

import { MetricPoint, toNumber } from './wire';

/** Several times what a plot of a few hundred pixels can show. */
const MOST_POINTS = 2000;
const MOST_CURVES = 60;
/** What recipes call the counts of a table: one point each, and no curve. */
const COUNTS = 'confusion/';
const PHASES = 'train|training|val|valid|validation|eval|test';
const PHASE = new RegExp(
  `^(?:(${PHASES})[_/.-](.+)|(.+)[_/.-](${PHASES}))$`,
  's'
);

export interface Curve {
  steps: number[];
  values: number[];
}

/** One set of axes: `loss`, `train_loss` and `val_loss` share one. */
export interface Panel {
  title: string;
  curves: [label: string, curve: Curve][];
}

export class Curves {
  add(points: MetricPoint[]): void {
    for (const point of points) {
      for (const [name, value] of Object.entries(point.values)) {
        if (name.startsWith(COUNTS)) {
          continue;
        }
        let curve = this._curves.get(name);
        if (!curve) {
          if (this._curves.size >= MOST_CURVES) {
            continue;
          }
          curve = { steps: [], values: [] };
          this._curves.set(name, curve);
        }
        curve.steps.push(point.step);
        curve.values.push(toNumber(value));
        if (curve.steps.length > MOST_POINTS) {
          thin(curve);
        }
      }
      this.lastStep = point.step;
    }
  }

  lastStep: number | null = null;

  /** The latest value of each metric. */
  get last(): [name: string, value: number][] {
    return [...this._curves].map(([name, curve]) => [
      name,
      curve.values[curve.values.length - 1] ?? NaN
    ]);
  }

  get panels(): Panel[] {
    const found = new Map<string, Panel>();
    for (const [name, curve] of this._curves) {
      const match = PHASE.exec(name);
      const title = match?.[2] ?? match?.[3] ?? name;
      const panel = found.get(title) ?? { title, curves: [] };
      panel.curves.push([match?.[1] ?? match?.[4] ?? name, curve]);
      found.set(title, panel);
    }
    return [...found.values()];
  }

  private readonly _curves = new Map<string, Curve>();
}

/** Half as many: of each two neighbours the one that is farther from the point before them. */
function thin(curve: Curve): void {
  const { steps, values } = curve;
  const kept = [0];
  for (let i = 1; i < values.length - 1; i += 2) {
    const before = values[kept[kept.length - 1]!]!;
    const next = Math.abs(values[i + 1]! - before);
    kept.push(Math.abs(values[i]! - before) >= next ? i : i + 1);
  }
  if (kept[kept.length - 1] !== values.length - 1) {
    kept.push(values.length - 1);
  }
  curve.steps = kept.map(i => steps[i]!);
  curve.values = kept.map(i => values[i]!);
}

/** Four significant digits: enough to watch a loss fall. */
export function digits(value: number): string {
  return Number.isFinite(value)
    ? String(Number(value.toPrecision(4)))
    : String(value).replace('Infinity', '∞');
}
