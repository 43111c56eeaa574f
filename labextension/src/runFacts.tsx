/** Above a run as its cell shows it: where it came from, and what to do with it. */

import * as React from 'react';

import * as code from './code';
import { useLoaded } from './loaded';
import { Codes, Facts, Link, Reading, ViewProps } from './viewParts';
import { isOver } from './wire';

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
  const me = platform.me?.user ?? null;
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
            <Facts
              facts={[
                [
                  trans.__('Data'),
                  run.datasets?.length ? (
                    <>
                      {run.datasets.map(one => (
                        <Link
                          key={`${one.owner}/${one.name}`}
                          thing={{
                            kind: 'datasets',
                            owner: one.owner,
                            name: one.name
                          }}
                          actions={actions}
                        >
                          {`${code.reference(one, me)}@${one.version}`}
                        </Link>
                      ))}
                    </>
                  ) : null
                ],
                [
                  trans.__('Model'),
                  run.model ? (
                    <Link
                      thing={{
                        kind: 'models',
                        owner: run.model.owner,
                        name: run.model.name
                      }}
                      actions={actions}
                    >
                      {`${run.model.name}@${run.model.version}`}
                    </Link>
                  ) : null
                ]
              ]}
            />
            <Codes codes={codes} actions={actions} trans={trans} />
          </>
        );
      }}
    </Reading>
  );
}
