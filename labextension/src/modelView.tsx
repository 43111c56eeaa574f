/** A model: its versions, what it is called, its card. */

import * as React from 'react';

import * as code from './code';
import { digits } from './curves';
import { useLoaded } from './loaded';
import { plain } from './logTail';
import { day, size } from './readable';
import { Markdown } from './rendering';
import {
  Codes,
  Facts,
  Link,
  Reading,
  Table,
  Versions,
  ViewProps
} from './viewParts';
import { Tensor } from './wire';

const MOST_VERSIONS = 100;

export function ModelView(props: ViewProps): JSX.Element {
  const { thing, platform, actions, trans, isShown } = props;
  const { owner, name } = thing;
  const [version, setVersion] = React.useState<number | undefined>();
  const newest = useLoaded(
    signal => platform.service.model(owner, name, {}, signal),
    'newest',
    isShown,
    0
  );
  const model = useLoaded(
    signal => platform.service.model(owner, name, { version }, signal),
    `model ${version}`,
    isShown,
    0
  );
  const last = newest.value?.latest.version ?? 0;
  return (
    <>
      {last > 0 && (
        <Versions
          label={trans.__('Version')}
          versions={Array.from(
            { length: Math.min(last, MOST_VERSIONS) },
            (_, i) => last - i
          )}
          chosen={version ?? last}
          choose={setVersion}
        />
      )}
      <Reading loaded={model} trans={trans}>
        {({ latest, aliases, ...one }) => {
          const ref = `${code.reference(one, platform.me?.user ?? null)}@${latest.version}`;
          const { card, signature } = latest;
          return (
            <>
              {card.description && <Markdown text={card.description} />}
              <Facts
                facts={[
                  [trans.__('Owner'), one.owner],
                  [trans.__('Licence'), card.licence],
                  [
                    trans.__('Called'),
                    Object.entries(aliases)
                      .map(([alias, at]) => `${alias} → v${at}`)
                      .join(', ')
                  ],
                  [trans.__('Made with'), latest.framework],
                  [trans.__('Size'), size(latest.size)],
                  [trans.__('Stored'), day(latest.created_at)],
                  [
                    trans.__('Largest difference of the exported model'),
                    digits(latest.export_max_abs)
                  ],
                  [
                    trans.__('Run'),
                    latest.run_id && (
                      <Link
                        thing={{ kind: 'runs', owner, name: latest.run_id }}
                        actions={actions}
                      >
                        {latest.run_id}
                      </Link>
                    )
                  ],
                  ...Object.entries(card.metrics).map(
                    ([metric, value]): [string, string] => [
                      plain(metric),
                      digits(value)
                    ]
                  )
                ]}
              />
              <Codes
                codes={[
                  [trans.__('Publish it'), code.publishModel(name, ref)],
                  [trans.__('Look at it'), code.model(ref)]
                ]}
                actions={actions}
                trans={trans}
              />
              <h3>{trans.__('Inputs and outputs')}</h3>
              <Table
                label={trans.__('Inputs and outputs')}
                head={[
                  trans.__('Side'),
                  trans.__('Name'),
                  trans.__('Type'),
                  trans.__('Shape of a row')
                ]}
                rows={[
                  ...signature.inputs.map(tensor => [
                    trans.__('input'),
                    ...tensorRow(tensor)
                  ]),
                  ...signature.outputs.map(tensor => [
                    trans.__('output'),
                    ...tensorRow(tensor)
                  ])
                ]}
              />
            </>
          );
        }}
      </Reading>
    </>
  );
}

function tensorRow({ name, dtype, shape }: Tensor): string[] {
  return [name, dtype, shape.map(side => side ?? '?').join(' × ') || '1'];
}
