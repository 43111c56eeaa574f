/** Where a thing came from: endpoint ← model ← run ← data, each of which can be opened. */

import * as React from 'react';

import * as code from './code';
import { Thing } from './kinds';
import { useLoaded } from './loaded';
import { Link, Reading, ViewProps } from './viewParts';
import { Lineage, Pinned } from './wire';

export function EndpointLineage(props: ViewProps): JSX.Element {
  const { owner, name } = props.thing;
  return (
    <LineageOf
      {...props}
      read={signal =>
        props.platform.service.endpointLineage(owner, name, signal)
      }
    />
  );
}

export function RunLineage(props: ViewProps): JSX.Element {
  return (
    <LineageOf
      {...props}
      read={signal =>
        props.platform.service.runLineage(props.thing.name, signal)
      }
    />
  );
}

function LineageOf(
  props: ViewProps & { read: (signal: AbortSignal) => Promise<Lineage> }
): JSX.Element {
  const { trans, isShown } = props;
  const loaded = useLoaded(props.read, 'lineage', isShown, 0);
  return (
    <>
      <h3>{trans.__('Lineage')}</h3>
      <Reading loaded={loaded} trans={trans}>
        {lineage => (
          <ol className="jp-aiaas-lineage" aria-label={trans.__('Lineage')}>
            {steps(lineage, props).map(([what, thing, text]) => (
              <li key={`${what} ${text}`}>
                <span className="jp-aiaas-muted">{what}</span>{' '}
                <Link thing={thing} actions={props.actions}>
                  {text}
                </Link>
              </li>
            ))}
          </ol>
        )}
      </Reading>
    </>
  );
}

type Step = [what: string, thing: Thing, text: string];

function steps(lineage: Lineage, props: ViewProps): Step[] {
  const { trans, platform } = props;
  const me = platform.me?.user ?? null;
  const { model, run, endpoint_version } = lineage;
  const pinned = (
    what: string,
    kind: 'models' | 'datasets',
    one: Pinned
  ): Step => [
    what,
    { kind, owner: one.owner, name: one.name },
    `${code.reference(one, me)}@${one.version}`
  ];
  return [
    ...(endpoint_version === null
      ? []
      : [
          [
            trans.__('Endpoint'),
            props.thing,
            trans.__('%1, version %2', props.thing.name, endpoint_version)
          ] as Step
        ]),
    ...(model ? [pinned(trans.__('Model'), 'models', model)] : []),
    ...(run
      ? [
          [
            trans.__('Run'),
            { kind: 'runs', owner: run.owner, name: run.id },
            `${run.name} · ${run.id}`
          ] as Step
        ]
      : []),
    ...lineage.datasets.map(one => pinned(trans.__('Data'), 'datasets', one))
  ];
}
