/** A dataset: what it is, its versions, columns, rows and profile. */

import * as React from 'react';

import * as code from './code';
import { digits } from './curves';
import { useLoaded } from './loaded';
import { plain } from './logTail';
import { cell, count, day, size } from './readable';
import { Markdown } from './rendering';
import { Codes, Facts, Reading, Table, Versions, ViewProps } from './viewParts';
import { ColumnProfile, ProfileStatus } from './wire';

const ROWS = 50;
const MOST_VERSIONS = 100;
/** While it is being computed. */
const PROFILE_SECONDS = 10;

export function DatasetView(props: ViewProps): JSX.Element {
  const { thing, platform, trans, isShown } = props;
  const { owner, name } = thing;
  const { service } = platform;
  const [version, setVersion] = React.useState<number | undefined>();
  const dataset = useLoaded(
    signal => service.dataset(owner, name, { version }, signal),
    `dataset ${version}`,
    isShown,
    0
  );
  const versions = useLoaded(
    signal =>
      service.datasetVersions(owner, name, { limit: MOST_VERSIONS }, signal),
    'versions',
    isShown,
    0
  );
  return (
    <Reading loaded={dataset} trans={trans}>
      {({ latest, ...one }) => {
        const ref = code.reference(one, platform.me?.user ?? null);
        const pinned = version === undefined ? ref : `${ref}@${version}`;
        const known = versions.value?.items.map(item => item.version) ?? [];
        const all = known.includes(latest.version)
          ? known
          : [latest.version, ...known];
        return (
          <>
            <Versions
              label={trans.__('Version')}
              versions={all}
              chosen={latest.version}
              choose={setVersion}
            />
            {one.description && <Markdown text={one.description} />}
            <Facts
              facts={[
                [trans.__('Owner'), one.owner],
                [
                  trans.__('Readable by'),
                  one.visibility === 'group'
                    ? trans.__('group %1', one.group ?? '')
                    : one.visibility === 'everyone'
                      ? trans.__('everyone')
                      : trans.__('its owner only')
                ],
                [trans.__('Licence'), one.licence],
                [trans.__('Tags'), one.tags.join(', ')],
                [trans.__('Rows'), count(latest.rows)],
                [trans.__('Size'), `${size(latest.size)} · ${latest.format}`],
                [trans.__('Stored'), day(latest.created_at)],
                [trans.__('From'), latest.source],
                [trans.__('Names of this version'), latest.tags.join(', ')],
                [
                  trans.__('State'),
                  latest.retired ? trans.__('retired: not used any more') : ''
                ]
              ]}
            />
            <Codes
              codes={[
                [trans.__('Load it'), code.load(pinned, name)],
                [trans.__('Look at rows'), code.preview(pinned)],
                [trans.__('Statistics'), code.profile(pinned)],
                [trans.__('Train on it'), code.train(pinned, name)]
              ]}
              actions={props.actions}
              trans={trans}
            />
            <h3>{trans.__('Columns')}</h3>
            <Table
              label={trans.__('Columns')}
              head={[
                trans.__('Name'),
                trans.__('Type'),
                trans.__('May be missing')
              ]}
              rows={latest.columns.map(column => [
                column.name,
                column.type,
                column.nullable ? trans.__('yes') : trans.__('no')
              ])}
            />
            <Rows {...props} version={latest.version} />
            <Profile {...props} version={latest.version} />
          </>
        );
      }}
    </Reading>
  );
}

function Rows(props: ViewProps & { version: number }): JSX.Element {
  const { thing, platform, trans, version } = props;
  const [offset, setOffset] = React.useState(0);
  React.useEffect(() => setOffset(0), [version]);
  const rows = useLoaded(
    signal =>
      platform.service.preview(
        thing.owner,
        thing.name,
        { version, n: ROWS, offset },
        signal
      ),
    `rows ${version} ${offset}`,
    props.isShown,
    0
  );
  return (
    <>
      <h3>{trans.__('Rows')}</h3>
      <Reading loaded={rows} trans={trans}>
        {found => (
          <>
            <Table
              label={trans.__('Rows')}
              head={found.columns.map(column => column.name)}
              rows={found.rows}
            />
            <nav className="jp-aiaas-paging" aria-label={trans.__('Rows')}>
              <button
                className="jp-mod-styled"
                disabled={offset === 0}
                onClick={() => setOffset(Math.max(0, offset - ROWS))}
              >
                {trans.__('Before')}
              </button>
              <span role="status">
                {trans.__(
                  '%1 to %2 of %3',
                  count(Math.min(found.offset + 1, found.total_rows)),
                  count(found.offset + found.rows.length),
                  count(found.total_rows)
                )}
              </span>
              <button
                className="jp-mod-styled"
                disabled={!found.truncated}
                onClick={() => setOffset(offset + ROWS)}
              >
                {trans.__('After')}
              </button>
            </nav>
          </>
        )}
      </Reading>
    </>
  );
}

function Profile(props: ViewProps & { version: number }): JSX.Element {
  const { thing, platform, trans, version } = props;
  const [isUnderway, setUnderway] = React.useState(false);
  const status = useLoaded(
    signal =>
      platform.service.profile(thing.owner, thing.name, { version }, signal),
    `profile ${version}`,
    props.isShown,
    isUnderway ? PROFILE_SECONDS : 0
  );
  const state = status.value?.state;
  React.useEffect(
    () => setUnderway(state === 'queued' || state === 'running'),
    [state]
  );
  return (
    <>
      <h3>{trans.__('Statistics')}</h3>
      <Reading loaded={status} trans={trans}>
        {found =>
          found.profile ? (
            <Statistics profile={found.profile} {...props} />
          ) : (
            <div className="jp-aiaas-muted" role="status">
              {whyNone(found, props)}
            </div>
          )
        }
      </Reading>
    </>
  );
}

function whyNone(status: ProfileStatus, props: ViewProps): string {
  const { trans, thing, platform } = props;
  const ref = code.reference(thing, platform.me?.user ?? null);
  switch (status.state) {
    case 'queued':
      return trans.__('They are computed soon.');
    case 'running':
      return trans.__(
        'They are being computed: %1 of %2 columns.',
        status.done,
        status.total
      );
    case 'failed':
      return `${plain(status.error)} ${trans.__('Try %1.', code.profile(ref))}`;
    default:
      return trans.__('None yet: type %1.', code.profile(ref));
  }
}

function Statistics(
  props: ViewProps & { profile: NonNullable<ProfileStatus['profile']> }
): JSX.Element {
  const { profile, trans } = props;
  const number = (value: number | null): string =>
    value === null ? '' : digits(value);
  return (
    <>
      {profile.looked_at < profile.rows && (
        <div className="jp-aiaas-muted">
          {trans.__(
            'Of %1 rows that were chosen at random.',
            count(profile.looked_at)
          )}
        </div>
      )}
      <Table
        label={trans.__('Statistics')}
        head={[
          trans.__('Column'),
          trans.__('Missing'),
          trans.__('Different'),
          trans.__('Least'),
          trans.__('Mean'),
          trans.__('Most'),
          trans.__('Spread')
        ]}
        rows={profile.columns.map(column => [
          column.name,
          count(column.nulls),
          column.distinct === null ? '' : count(column.distinct),
          column.least,
          number(column.mean),
          column.most,
          <Spread key="spread" column={column} label={trans.__('Spread')} />
        ])}
      />
    </>
  );
}

/** A histogram's bars; of texts the most frequent ones. */
function Spread(props: { column: ColumnProfile; label: string }): JSX.Element {
  const { histogram, top, note } = props.column;
  if (!histogram || !histogram.counts.length) {
    const words = top
      .slice(0, 3)
      .map(({ value, count: times }) => `${cell(value)} (${count(times)})`);
    return <>{plain(words.join(', ') || note)}</>;
  }
  const { counts } = histogram;
  const most = Math.max(...counts, 1);
  return (
    <svg
      className="jp-aiaas-spread"
      role="img"
      aria-label={`${props.label}: ${counts.join(', ')}`}
      viewBox={`0 0 ${counts.length} 1`}
      preserveAspectRatio="none"
    >
      {counts.map((amount, i) => (
        <rect
          key={i}
          x={i + 0.05}
          width={0.9}
          y={1 - amount / most}
          height={amount / most}
        />
      ))}
    </svg>
  );
}
