/** Keys for callers outside: made here, seen once, revoked here. */

import { Dialog, showDialog } from '@jupyterlab/apputils';
import * as React from 'react';

import { useIntention } from './intention';
import { useLoaded } from './loaded';
import { plain } from './logTail';
import { day } from './readable';
import { asServiceError, ServiceError } from './serviceError';
import { Trouble } from './trouble';
import { Reading, Table, ViewProps } from './viewParts';
import { Key, Page } from './wire';

const MOST_KEYS = 200;
const DAYS = [1, 7, 30, 90, 365];
const USUAL_DAYS = 90;

export function Keys(props: ViewProps): JSX.Element {
  const { thing, platform, actions, trans, isShown } = props;
  const { owner, name } = thing;
  const [note, setNote] = React.useState('');
  const [days, setDays] = React.useState(USUAL_DAYS);
  const [made, setMade] = React.useState<Key | null>(null);
  const [busy, setBusy] = React.useState(false);
  const [refusal, setRefusal] = React.useState<ServiceError | null>(null);
  const intention = useIntention();
  const keys = useLoaded(
    signal => platform.service.keys(owner, name, { limit: MOST_KEYS }, signal),
    'keys',
    isShown,
    0
  );
  const act = async (what: () => Promise<void>): Promise<void> => {
    setBusy(true);
    setRefusal(null);
    try {
      await what();
    } catch (error) {
      setRefusal(asServiceError(error));
    }
    // Also after a refusal: it may have gone through.
    keys.again();
    setBusy(false);
  };
  const create = (): Promise<void> =>
    act(async () => {
      const wanted = { note, expires_in_days: days };
      const once = intention.keyOf(JSON.stringify(wanted));
      setMade(await platform.service.createKey(owner, name, wanted, once));
      intention.done();
      setNote('');
    });
  const revoke = async (key: Key): Promise<void> => {
    if (await confirmed(key, props)) {
      await act(async () => {
        await platform.service.revokeKey(owner, name, key.id);
        setMade(made => (made?.id === key.id ? null : made));
      });
    }
  };
  return (
    <>
      <h3>{trans.__('Keys')}</h3>
      <form
        className="jp-aiaas-actions"
        onSubmit={event => {
          event.preventDefault();
          void create();
        }}
      >
        <label>
          {trans.__('For whom')}{' '}
          <input
            className="jp-mod-styled"
            maxLength={200}
            value={note}
            onChange={event => setNote(event.target.value)}
          />
        </label>
        <label>
          {trans.__('For how long')}{' '}
          <select
            className="jp-mod-styled"
            value={days}
            onChange={event => setDays(Number(event.target.value))}
          >
            {DAYS.map(one => (
              <option key={one} value={one}>
                {trans._n('%1 day', '%1 days', one)}
              </option>
            ))}
          </select>
        </label>
        <button className="jp-mod-styled" disabled={busy}>
          {trans.__('Make a key')}
        </button>
      </form>
      {refusal && (
        <Trouble
          trouble={refusal}
          again={() => {
            setRefusal(null);
            keys.again();
          }}
          trans={trans}
        />
      )}
      <div role="status">
        {made?.token && (
          <div className="jp-aiaas-made">
            <div>
              {trans.__('This is shown once: keep it where secrets are kept.')}
            </div>
            <code>{made.token}</code>
            <button
              className="jp-mod-styled"
              aria-label={trans.__('Copy the key')}
              onClick={() => actions.copy(made.token ?? '')}
            >
              {trans.__('Copy')}
            </button>
            <button
              className="jp-mod-styled jp-mod-minimal"
              onClick={() => setMade(null)}
            >
              {trans.__('I have it')}
            </button>
          </div>
        )}
      </div>
      <Reading loaded={keys} trans={trans}>
        {page => (
          <KeyTable {...props} page={page} busy={busy} revoke={revoke} />
        )}
      </Reading>
    </>
  );
}

function KeyTable(
  props: ViewProps & {
    page: Page<Key>;
    busy: boolean;
    revoke: (key: Key) => Promise<void>;
  }
): JSX.Element {
  const { trans, page } = props;
  if (!page.items.length) {
    return <div className="jp-aiaas-muted">{trans.__('No keys yet.')}</div>;
  }
  return (
    <>
      <Table
        label={trans.__('Keys')}
        head={[
          trans.__('Key'),
          trans.__('For whom'),
          trans.__('Made'),
          trans.__('Until'),
          trans.__('State')
        ]}
        rows={page.items.map(one => [
          one.id,
          one.note,
          day(one.created_at),
          day(one.expires_at),
          one.revoked_at !== null ? (
            <span key="state">{trans.__('revoked')}</span>
          ) : Date.parse(one.expires_at) < Date.now() ? (
            <span key="state">{trans.__('expired')}</span>
          ) : (
            <button
              key="state"
              className="jp-mod-styled jp-mod-minimal"
              aria-label={trans.__('Revoke key %1', one.id)}
              disabled={props.busy}
              onClick={() => void props.revoke(one)}
            >
              {trans.__('Revoke')}
            </button>
          )
        ])}
      />
      {page.next_cursor !== null && (
        <div className="jp-aiaas-muted">
          {trans.__('There are more: type %1.', '%aiaas keys')}
        </div>
      )}
    </>
  );
}

async function confirmed(key: Key, { trans }: ViewProps): Promise<boolean> {
  const answer = await showDialog({
    title: trans.__('Revoke key %1?', key.id),
    body: trans.__(
      'Whoever calls with it is refused at once: %1.',
      plain(key.note) || trans.__('nobody was noted')
    ),
    defaultButton: 0,
    buttons: [
      Dialog.cancelButton({ label: trans.__('Leave it') }),
      Dialog.warnButton({ label: trans.__('Revoke it') })
    ]
  });
  return answer.button.accept;
}
