/** Above a run as its cell shows it: where it came from, and what to do with it. */

import * as React from 'react';

import * as code from './code';
import { useIntention } from './intention';
import { useLoaded } from './loaded';
import { RunLineage } from './lineageView';
import { lines, Python } from './rendering';
import { asServiceError, ServiceError } from './serviceError';
import { Trouble } from './trouble';
import { Codes, Reading, ViewProps } from './viewParts';
import { isOver, Run } from './wire';

const SECONDS = 10;

export function RunFacts(props: ViewProps): JSX.Element {
  const { thing, platform, actions, trans, isShown } = props;
  const id = thing.name;
  const [isLive, setLive] = React.useState(true);
  const loaded = useLoaded(
    signal => platform.service.run(id, signal),
    'run',
    isShown,
    isLive ? SECONDS : 0
  );
  const over = loaded.value !== null && isOver(loaded.value);
  React.useEffect(() => setLive(!over), [over]);
  return (
    <Reading loaded={loaded} trans={trans}>
      {run => {
        const codes: [string, string][] = [
          [trans.__('Follow it in a cell'), code.attach(id)],
          [trans.__('Its log'), code.logs(id)]
        ];
        if (over && run.state !== 'succeeded') {
          codes.unshift([
            trans.__('Go on from its last checkpoint'),
            code.resume(id)
          ]);
        }
        if (run.model) {
          codes.unshift([
            trans.__('Publish its model'),
            code.publishRun(run.model.name, id)
          ]);
        }
        return (
          <>
            <Resume {...props} run={run} />
            <Codes codes={codes} actions={actions} trans={trans} />
            {run.snapshot?.source && (
              <Source {...props} source={run.snapshot.source} />
            )}
            <RunLineage {...props} key={run.model?.version ?? 0} />
          </>
        );
      }}
    </Reading>
  );
}

/** What ran. A page of a later day shows what was typed on that one. */
function Source(props: ViewProps & { source: string }): JSX.Element {
  const { actions, trans } = props;
  const shown = lines(code.asTyped(props.source));
  const name = trans.__('Code');
  return (
    <>
      <h3>{name}</h3>
      <Python code={shown} label={name} />
      <div className="jp-aiaas-actions">
        <button
          className="jp-mod-styled"
          aria-label={trans.__('Insert: %1', name)}
          onClick={() => actions.insert(shown)}
        >
          {trans.__('Insert')}
        </button>
        <button
          className="jp-mod-styled"
          aria-label={trans.__('Copy: %1', name)}
          onClick={() => actions.copy(shown)}
        >
          {trans.__('Copy')}
        </button>
      </div>
    </>
  );
}

/** For a run that did not succeed: another one, from its last checkpoint on. */
function Resume(props: ViewProps & { run: Run }): JSX.Element | null {
  const { run, platform, actions, trans } = props;
  const [busy, setBusy] = React.useState(false);
  const [refusal, setRefusal] = React.useState<ServiceError | null>(null);
  const intention = useIntention();
  // A sweep has no checkpoint of its own: its trials have.
  if (!isOver(run) || run.state === 'succeeded' || run.kind === 'sweep') {
    return null;
  }
  const resume = async (): Promise<void> => {
    setBusy(true);
    setRefusal(null);
    try {
      const once = intention.keyOf(run.id);
      const next = await platform.service.resume(run.id, once);
      intention.done();
      platform.runs.put(next, true);
      actions.open({ kind: 'runs', owner: next.owner, name: next.id });
    } catch (error) {
      setRefusal(asServiceError(error));
    }
    setBusy(false);
  };
  return (
    <>
      <div className="jp-aiaas-actions">
        <button
          className="jp-mod-styled jp-mod-accept"
          disabled={busy}
          onClick={() => void resume()}
        >
          {trans.__('Resume')}
        </button>
        <span className="jp-aiaas-muted">
          {trans.__('A new run goes on from its last checkpoint.')}
        </span>
      </div>
      {refusal && (
        <Trouble trouble={refusal} again={() => void resume()} trans={trans} />
      )}
    </>
  );
}
