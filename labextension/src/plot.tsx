/** Curves as small pictures that follow the page's theme. */

import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { Curve, digits, Panel } from './curves';
import { plain } from './logTail';

const MOST_PANELS = 6;
const WIDTH = 300;
const HEIGHT = 110;
/** Beyond this ratio of highest to lowest, the small values would lie on the axis. */
const DECADES = 1000;
const COLOURS = 8;

export function Plots(props: {
  panels: Panel[];
  trans: TranslationBundle;
  /** What lies along the axis; by default a run's steps. */
  axis?: string;
}): JSX.Element | null {
  if (!props.panels.length) {
    return null;
  }
  const more = props.panels.slice(MOST_PANELS).map(panel => plain(panel.title));
  return (
    <>
      <div className="jp-aiaas-plots">
        {props.panels.slice(0, MOST_PANELS).map(panel => (
          <Plot
            key={panel.title}
            panel={panel}
            trans={props.trans}
            axis={props.axis}
          />
        ))}
      </div>
      {more.length > 0 && (
        <div className="jp-aiaas-muted">
          {props.trans.__('not drawn: %1', more.slice(0, 20).join(', '))}
        </div>
      )}
    </>
  );
}

function Plot(props: {
  panel: Panel;
  trans: TranslationBundle;
  axis?: string;
}): JSX.Element {
  const { panel, trans, axis } = props;
  const title = plain(panel.title).slice(0, 40);
  const scale = new Scale(panel.curves.map(([, curve]) => curve));
  const last = panel.curves
    .map(([label, curve]) =>
      panel.curves.length > 1
        ? `${plain(label).slice(0, 40)} ${lastOf(curve)}`
        : lastOf(curve)
    )
    .join(', ');
  return (
    <figure>
      <figcaption>
        <b>{title}</b>{' '}
        {panel.curves.map(([label, curve], i) => (
          <span key={label} className={`jp-aiaas-curve-${i % COLOURS}`}>
            {panel.curves.length > 1 && `— ${plain(label).slice(0, 40)} `}
            {lastOf(curve)}{' '}
          </span>
        ))}
      </figcaption>
      <div className="jp-aiaas-axes">
        <span>{digits(scale.high)}</span>
        <span>{scale.isLog && trans.__('log')}</span>
        <span>{digits(scale.low)}</span>
      </div>
      <svg
        role="img"
        aria-label={
          axis === undefined
            ? trans.__(
                '%1 by step, to step %2: %3',
                title,
                scale.lastStep,
                last
              )
            : trans.__('%1 by %2: %3', title, axis, last)
        }
        viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
        preserveAspectRatio="none"
      >
        {panel.curves.map(([label, curve], i) => (
          <path
            key={label}
            className={`jp-aiaas-curve-${i % COLOURS}`}
            d={scale.path(curve)}
          />
        ))}
      </svg>
      <div className="jp-aiaas-steps">
        <span>{scale.firstStep}</span>
        <span>{axis ?? trans.__('step')}</span>
        <span>{scale.lastStep}</span>
      </div>
    </figure>
  );
}

function lastOf(curve: Curve): string {
  return digits(curve.values[curve.values.length - 1] ?? NaN);
}

class Scale {
  readonly low: number;
  readonly high: number;
  readonly firstStep: number;
  readonly lastStep: number;
  readonly isLog: boolean;

  constructor(curves: Curve[]) {
    let [low, high, first, last] = [Infinity, -Infinity, Infinity, -Infinity];
    for (const curve of curves) {
      for (const value of curve.values) {
        if (Number.isFinite(value)) {
          low = Math.min(low, value);
          high = Math.max(high, value);
        }
      }
      first = Math.min(first, curve.steps[0] ?? first);
      last = Math.max(last, curve.steps[curve.steps.length - 1] ?? last);
    }
    const none = low > high;
    this.low = none ? NaN : low;
    this.high = none ? NaN : high;
    this.firstStep = first;
    this.lastStep = last;
    this.isLog = low > 0 && high / low >= DECADES;
  }

  /** A line that ends where a value is no number, and goes on after it. */
  path(curve: Curve): string {
    let drawn = '';
    let pen = 'M';
    curve.values.forEach((value, i) => {
      if (!Number.isFinite(value)) {
        pen = 'M';
        return;
      }
      drawn += `${pen}${this._x(curve.steps[i]!)} ${this._y(value)}`;
      pen = 'L';
    });
    // A line of no length is a dot, by its round ends.
    return drawn.includes('L') || !drawn ? drawn : `${drawn}h0`;
  }

  private _x(step: number): string {
    const span = this.lastStep - this.firstStep || 1;
    return (2 + ((WIDTH - 4) * (step - this.firstStep)) / span).toFixed(1);
  }

  private _y(value: number): string {
    const of = this.isLog ? Math.log : (x: number) => x;
    const span = of(this.high) - of(this.low) || 1;
    const up = (of(value) - of(this.low)) / span;
    return (HEIGHT - 4 - (HEIGHT - 8) * up).toFixed(1);
  }
}
