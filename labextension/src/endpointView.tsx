/** An endpoint: who gets the requests, how its versions do, and what may become of it. */

import * as React from 'react';

import * as code from './code';
import { digits, Panel } from './curves';
import { Keys } from './endpointKeys';
import { Change, isConfirmed, isShareConfirmed } from './endpointQuestions';
import { TrafficSlider } from './endpointTraffic';
import { TrialForm } from './endpointTrial';
import { shares } from './kinds';
import { EndpointLineage } from './lineageView';
import { useLoaded } from './loaded';
import { plain } from './logTail';
import { Plots } from './plot';
import { count, day } from './readable';
import { asServiceError, ServiceError } from './serviceError';
import { Trouble } from './trouble';
import { Codes, Facts, Link, Reading, Table, ViewProps } from './viewParts';
import {
  canary,
  Endpoint,
  EndpointVersion,
  isSettled,
  Sample,
  VersionDrift,
  VersionStatistics
} from './wire';

const SECONDS = 10;
const MOST_INPUTS = 5;

export function EndpointView(props: ViewProps): JSX.Element {
  const { thing, platform, actions, trans, isShown } = props;
  const { owner, name } = thing;
  const [isIdle, setIdle] = React.useState(false);
  const rhythm = isIdle ? platform : SECONDS;
  const [busy, setBusy] = React.useState(false);
  const [refusal, setRefusal] = React.useState<ServiceError | null>(null);
  const endpoint = useLoaded(
    signal => platform.service.endpoint(owner, name, signal),
    'endpoint',
    isShown,
    rhythm
  );
  const statistics = useLoaded(
    signal => platform.service.statistics(owner, name, signal),
    'statistics',
    isShown,
    rhythm
  );
  const drift = useLoaded(
    signal => platform.service.drift(owner, name, signal),
    'drift',
    isShown,
    platform
  );
  const settled = endpoint.value !== null && isSettled(endpoint.value);
  React.useEffect(() => setIdle(settled), [settled]);
  const change = async (
    make: () => Promise<Endpoint>,
    isWanted: () => Promise<boolean>
  ): Promise<void> => {
    if (!(await isWanted())) {
      return;
    }
    setBusy(true);
    setRefusal(null);
    try {
      const changed = await make();
      endpoint.set(changed);
      platform.endpoints.put(changed, false);
    } catch (error) {
      setRefusal(asServiceError(error));
      // Perhaps it went through: what is true is seen.
      endpoint.again();
    }
    setBusy(false);
  };
  const become = (what: Change, now: Endpoint): Promise<void> =>
    change(
      () => platform.service.change(owner, name, what),
      () => isConfirmed(what, now, trans)
    );
  return (
    <Reading loaded={endpoint} trans={trans}>
      {now => {
        const ref = code.reference(now, platform.me?.user ?? null);
        const isRetired = now.state === 'retired';
        return (
          <>
            <div className="jp-aiaas-actions">
              <span
                role="status"
                className="jp-aiaas-state"
                data-state={now.state}
              >
                {now.state}
              </span>
              {canary(now) && (
                <button
                  className="jp-mod-styled jp-mod-accept"
                  disabled={busy}
                  onClick={() => void become('promote', now)}
                >
                  {trans.__('Promote')}
                </button>
              )}
              <button
                className="jp-mod-styled"
                disabled={busy || isRetired || !Object.keys(now.former).length}
                onClick={() => void become('rollback', now)}
              >
                {trans.__('Roll back')}
              </button>
              <button
                className="jp-mod-styled jp-mod-warn"
                disabled={busy || isRetired}
                onClick={() => void become('retire', now)}
              >
                {trans.__('Retire')}
              </button>
            </div>
            {refusal && (
              <Trouble
                trouble={refusal}
                again={() => {
                  setRefusal(null);
                  endpoint.again();
                }}
                trans={trans}
              />
            )}
            <Facts
              facts={[
                [trans.__('Owner'), now.owner],
                [trans.__('Traffic'), shares(now.traffic, trans)],
                [
                  trans.__('A rollback leads to'),
                  Object.keys(now.former).length
                    ? shares(now.former, trans)
                    : ''
                ],
                [
                  trans.__('Loaded'),
                  now.sleep ? trans.__('No: asleep, until somebody calls') : ''
                ],
                [trans.__('Address'), now.url],
                [trans.__('Changed'), day(now.updated_at)]
              ]}
            />
            <TrafficSlider
              endpoint={now}
              busy={busy}
              set={traffic =>
                void change(
                  () => platform.service.setTraffic(owner, name, traffic),
                  () => isShareConfirmed(traffic, now, trans)
                )
              }
              trans={trans}
            />
            <Codes
              codes={[
                [trans.__('Predict'), code.predict(ref)],
                [trans.__('Its address'), now.url]
              ]}
              actions={actions}
              trans={trans}
            />
            <h3>{trans.__('Versions')}</h3>
            <Table
              label={trans.__('Versions')}
              head={[
                trans.__('Version'),
                trans.__('State'),
                trans.__('Traffic'),
                trans.__('Model'),
                trans.__('Parity'),
                trans.__('Published'),
                trans.__('Why')
              ]}
              rows={now.versions.map(one => [
                `v${one.version}`,
                one.state,
                trans.__('%1 %', digits(now.traffic[one.version] ?? 0)),
                <Link
                  key="model"
                  thing={{
                    kind: 'models',
                    owner: one.model.owner,
                    name: one.model.name
                  }}
                  actions={actions}
                >
                  {`${one.model.name}@${one.model.version}`}
                </Link>,
                parity(one, props),
                trans.__('%1 by %2', day(one.created_at), one.created_by),
                one.error || one.reason
              ])}
            />
            <h3>{trans.__('Requests')}</h3>
            <Reading loaded={statistics} trans={trans}>
              {({ versions }) => <Requests versions={versions} {...props} />}
            </Reading>
            <h3>{trans.__('Inputs')}</h3>
            <Reading loaded={drift} trans={trans}>
              {({ versions }) => <Inputs versions={versions} {...props} />}
            </Reading>
            {!isRetired && <TrialForm {...props} endpoint={now} />}
            <Keys {...props} />
            <EndpointLineage {...props} />
          </>
        );
      }}
    </Reading>
  );
}

/** Of the newest version that gets requests, what its callers send. */
function Inputs(
  props: ViewProps & { versions: VersionDrift[] }
): JSX.Element | null {
  const { trans } = props;
  const version = props.versions.find(one => one.percent > 0);
  if (!version?.features.length) {
    return (
      <div className="jp-aiaas-muted">
        {plain(version?.reason ?? trans.__('No version is loaded.'))}
      </div>
    );
  }
  const words = {
    none: trans.__('as before'),
    some: trans.__('some'),
    much: trans.__('much')
  };
  return (
    <Table
      label={trans.__('Inputs')}
      head={[trans.__('Input'), trans.__('Change'), trans.__('PSI')]}
      rows={version.features
        .slice(0, MOST_INPUTS)
        .map(one => [one.name, words[one.change], digits(one.psi)])}
    />
  );
}

function Requests(
  props: ViewProps & { versions: VersionStatistics[] }
): JSX.Element {
  const { trans, versions } = props;
  if (!versions.length) {
    return (
      <div className="jp-aiaas-muted">{trans.__('No version is loaded.')}</div>
    );
  }
  const ms = (value: number | null): string =>
    value === null ? '' : trans.__('%1 ms', digits(value));
  return (
    <>
      <Plots
        panels={lastHour(versions, props)}
        trans={trans}
        axis={trans.__('minutes')}
      />
      <Table
        label={trans.__('Requests')}
        head={[
          trans.__('Version'),
          trans.__('Requests'),
          trans.__('Errors'),
          trans.__('p50'),
          trans.__('p95'),
          trans.__('p99'),
          trans.__('Health')
        ]}
        rows={versions.map(one => [
          `v${one.version}`,
          count(one.requests),
          count(one.errors),
          ms(one.p50_ms),
          ms(one.p95_ms),
          ms(one.p99_ms),
          one.healthy === null
            ? ''
            : one.healthy
              ? trans.__('answers')
              : one.fault || trans.__('does not answer')
        ])}
      />
    </>
  );
}

/** How fast it answers and how often it is asked, by minutes from now. */
function lastHour(
  versions: VersionStatistics[],
  { trans }: ViewProps
): Panel[] {
  const now = Date.now();
  const drawn = (
    title: string,
    of: (sample: Sample) => number | null
  ): Panel => ({
    title,
    curves: versions
      .map(({ version, samples }): [string, Sample[]] => [
        `v${version}`,
        samples.filter(sample => of(sample) !== null)
      ])
      .filter(([, samples]) => samples.length > 0)
      .map(([label, samples]) => [
        label,
        {
          steps: samples.map(({ at }) =>
            Math.round((Date.parse(at) - now) / 60_000)
          ),
          values: samples.map(sample => of(sample)!)
        }
      ])
  });
  return [
    drawn(trans.__('p95 in ms'), sample => sample.p95_ms),
    drawn(trans.__('requests per second'), sample => sample.requests_per_second)
  ].filter(({ curves }) => curves.length > 0);
}

function parity(one: EndpointVersion, { trans }: ViewProps): string {
  return one.parity === null
    ? ''
    : trans.__(
        'differs by %1 at most on %2 rows · p50 %3 ms',
        digits(one.parity.max_abs),
        count(one.parity.rows),
        digits(one.parity.p50_ms)
      );
}
