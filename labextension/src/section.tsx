/** One list of the panel, with its search; it can be folded. */

import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { Actions } from './actions';
import { Kind } from './kinds';
import { Rows } from './rows';
import { Trouble } from './trouble';

const TYPING_MS = 300;

export function Section(props: {
  kind: Kind<unknown>;
  actions: Actions;
  trans: TranslationBundle;
}): JSX.Element {
  const { kind } = props;
  const [isOpen, setOpen] = React.useState(true);
  const body = `jp-aiaas-section-${kind.id}`;
  return (
    <section
      className={`jp-aiaas-section ${isOpen ? 'jp-mod-open' : ''}`}
      aria-label={kind.title}
    >
      <h3>
        <button
          aria-expanded={isOpen}
          aria-controls={body}
          onClick={() => setOpen(!isOpen)}
        >
          <span aria-hidden="true">{isOpen ? '▾' : '▸'}</span> {kind.title}
          {kind.listing.isLoaded && (
            <span className="jp-aiaas-muted">
              {` ${kind.listing.items.length}${kind.listing.hasMore ? '+' : ''}`}
            </span>
          )}
        </button>
      </h3>
      <div id={body} className="jp-aiaas-section-body" hidden={!isOpen}>
        {isOpen && <Body {...props} />}
      </div>
    </section>
  );
}

function Body(props: {
  kind: Kind<unknown>;
  actions: Actions;
  trans: TranslationBundle;
}): JSX.Element {
  const { kind, actions, trans } = props;
  const { listing } = kind;
  const [text, setText] = React.useState(listing.search);
  React.useEffect(() => {
    const timer = window.setTimeout(
      () => void listing.setSearch(text),
      TYPING_MS
    );
    return () => window.clearTimeout(timer);
  }, [text, listing]);
  const isEmpty = listing.isLoaded && !listing.isLoading && !listing.hasMore;
  return (
    <>
      <input
        type="search"
        className="jp-mod-styled jp-aiaas-search"
        aria-label={trans.__('Search %1', kind.title)}
        placeholder={kind.hint}
        maxLength={256}
        value={text}
        onChange={event => setText(event.target.value)}
      />
      {listing.trouble && (
        <Trouble
          trouble={listing.trouble}
          again={() => void listing.refresh()}
          trans={trans}
        />
      )}
      {!listing.isLoaded && listing.isLoading && (
        <div className="jp-aiaas-muted" role="status">
          {trans.__('Looking …')}
        </div>
      )}
      {listing.items.length > 0 && (
        <Rows kind={kind} actions={actions} trans={trans} />
      )}
      {isEmpty && !listing.items.length && (
        <Nothing kind={kind} actions={actions} trans={trans} />
      )}
      {listing.isPaused && !listing.isLoading && (
        <div className="jp-aiaas-muted" role="status">
          {trans.__('%1 looked at.', listing.all.length.toLocaleString())}{' '}
          <button
            className="jp-mod-styled jp-mod-minimal"
            onClick={() => void listing.loadMore()}
          >
            {trans.__('Look further')}
          </button>
        </div>
      )}
    </>
  );
}

function Nothing(props: {
  kind: Kind<unknown>;
  actions: Actions;
  trans: TranslationBundle;
}): JSX.Element {
  const { kind, actions, trans } = props;
  if (kind.listing.search) {
    return (
      <div className="jp-aiaas-muted" role="status">
        {trans.__('Nothing is called that. Try other words.')}
      </div>
    );
  }
  const [firstLine] = kind.emptyCode.split('\n');
  return (
    <div className="jp-aiaas-nothing">
      <div>{kind.empty}</div>
      <code>{kind.emptyCode}</code>
      <button
        className="jp-mod-styled jp-mod-minimal"
        aria-label={trans.__('Insert %1', firstLine)}
        onClick={() => actions.insert(kind.emptyCode)}
      >
        {trans.__('Insert')}
      </button>
    </div>
  );
}
