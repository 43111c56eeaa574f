/** A run as it is now: state, progress, curves, resources, log. */

import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { digits } from './curves';
import { plain } from './logTail';
import { Plots } from './plot';
import { duration, size } from './readable';
import { RunModel } from './runs';
import { isOver, Run, WorkerUsage } from './wire';

const MOST_VALUES = 8;
const MOST_WORKERS = 16;

export function RunView(props: {
  model: RunModel;
  run: Run;
  trans: TranslationBundle;
  cancel: () => void;
}): JSX.Element {
  const { model, run, trans } = props;
  const waiting = whyWaiting(run, trans);
  const title = `${plain(run.name)} · ${run.id}`;
  return (
    <section className="jp-aiaas-run" aria-label={trans.__('Run %1', title)}>
      <header>
        <b>{title}</b>
        <span role="status" className="jp-aiaas-state" data-state={run.state}>
          {run.state}
        </span>
        {!isOver(run) && (
          <button
            className="jp-mod-styled jp-mod-minimal"
            aria-label={trans.__('Cancel run %1', title)}
            onClick={props.cancel}
          >
            {trans.__('Cancel')}
          </button>
        )}
      </header>
      {waiting && <div>{waiting}</div>}
      <ProgressLine model={model} run={run} trans={trans} />
      <div className="jp-aiaas-muted">{timing(run, trans)}</div>
      {model.trouble && (
        <div className="jp-aiaas-muted">
          {trans.__('%1 Trying again.', plain(model.trouble.message))}
        </div>
      )}
      {run.error && (
        <div className="jp-aiaas-error">
          <div>{plain(run.error.message)}</div>
          <div>{plain(run.error.remedy)}</div>
          {run.error.traceback && (
            <TextBlock
              label={trans.__('Traceback')}
              text={run.error.traceback.split('\n').map(plain).join('\n')}
            />
          )}
        </div>
      )}
      <Plots panels={model.curves.panels} trans={trans} />
      {!isOver(run) && run.usage && <Usage usage={run.usage} trans={trans} />}
      {model.log.text && (
        <TextBlock label={trans.__('Log')} text={model.log.text} />
      )}
    </section>
  );
}

function whyWaiting(run: Run, trans: TranslationBundle): string {
  if (run.queue) {
    return [
      trans.__('Place %1 in the queue.', run.queue.position),
      plain(run.queue.blocked_by),
      plain(run.queue.remedy)
    ]
      .filter(Boolean)
      .join(' ');
  }
  return plain(run.reason);
}

function ProgressLine(props: {
  model: RunModel;
  run: Run;
  trans: TranslationBundle;
}): JSX.Element {
  const { model, run, trans } = props;
  const step = run.progress?.step ?? model.curves.lastStep;
  const total = run.progress?.total ?? null;
  const values = model.curves.last
    .slice(0, MOST_VALUES)
    .map(([name, value]) => `${plain(name)} ${digits(value)}`);
  const at =
    step === null
      ? []
      : [
          total === null
            ? trans.__('step %1', step.toLocaleString())
            : trans.__(
                'step %1 of %2',
                step.toLocaleString(),
                total.toLocaleString()
              )
        ];
  const left = secondsLeft(run);
  const eta =
    left === null ? [] : [trans.__('about %1 left', duration(left, trans))];
  return (
    <div className="jp-aiaas-progress">
      {total !== null && step !== null && !isOver(run) && (
        <progress aria-label={trans.__('Progress')} value={step} max={total} />
      )}
      <span>{[...at, ...eta, ...values].join(' · ')}</span>
    </div>
  );
}

function Usage(props: {
  usage: WorkerUsage[];
  trans: TranslationBundle;
}): JSX.Element {
  return (
    <ul className="jp-aiaas-muted">
      {props.usage.slice(0, MOST_WORKERS).map(one => (
        <li key={one.worker}>
          {[
            props.trans.__('worker %1 on %2', one.worker, plain(one.host)),
            props.trans.__('CPU %1 %', one.cpu_percent.toFixed(0)),
            props.trans.__(
              'memory %1 of %2',
              size(one.memory_bytes),
              size(one.memory_total_bytes)
            ),
            ...(one.gpu_percent === null
              ? []
              : [props.trans.__('GPU %1 %', one.gpu_percent.toFixed(0))]),
            ...(one.gpu_memory_bytes
              ? [props.trans.__('GPU memory %1', size(one.gpu_memory_bytes))]
              : [])
          ].join(' · ')}
        </li>
      ))}
    </ul>
  );
}

/** Text that can be scrolled by keyboard, and stays at its end while it grows. */
function TextBlock(props: { label: string; text: string }): JSX.Element {
  const block = React.useRef<HTMLPreElement>(null);
  const atEnd = React.useRef(true);
  React.useLayoutEffect(() => {
    if (block.current && atEnd.current) {
      block.current.scrollTop = block.current.scrollHeight;
    }
  }, [props.text]);
  return (
    <pre
      ref={block}
      tabIndex={0}
      role="region"
      aria-label={props.label}
      onScroll={event => {
        const { scrollTop, scrollHeight, clientHeight } = event.currentTarget;
        atEnd.current = scrollTop + clientHeight >= scrollHeight - 4;
      }}
    >
      {props.text}
    </pre>
  );
}

function timing(run: Run, trans: TranslationBundle): string {
  const created = Date.parse(run.created_at);
  const ended = run.finished_at ? Date.parse(run.finished_at) : Date.now();
  const attempt = run.attempt > 1 ? [trans.__('attempt %1', run.attempt)] : [];
  const started = run.started_at ? Date.parse(run.started_at) : ended;
  const waited = trans.__(
    'waited %1',
    duration((started - created) / 1000, trans)
  );
  const ran = run.started_at
    ? [trans.__('ran %1', duration((ended - started) / 1000, trans))]
    : [];
  const day = new Date(created).toLocaleString();
  return [trans.__('submitted %1', day), waited, ...ran, ...attempt].join(
    ' · '
  );
}

function secondsLeft(run: Run): number | null {
  const { progress, started_at } = run;
  if (isOver(run) || !started_at || !progress?.total || progress.step < 1) {
    return null;
  }
  const ran = (Date.now() - Date.parse(started_at)) / 1000;
  const left = (ran / progress.step) * (progress.total - progress.step);
  return left > 0 ? left : null;
}
