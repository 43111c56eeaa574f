/** A list of any length: only the rows that can be seen are there, and the end brings more. */

import { TranslationBundle } from '@jupyterlab/translation';
import { useVirtualizer } from '@tanstack/react-virtual';
import * as React from 'react';

import { Actions } from './actions';
import { Kind, Row } from './kinds';

const ROW_PX = 44;
const OVERSCAN = 6;
/** Rows before the end at which more are asked for: they are there when one comes to them. */
const AHEAD = 20;

export function Rows(props: {
  kind: Kind<unknown>;
  actions: Actions;
  trans: TranslationBundle;
}): JSX.Element {
  const { kind, actions, trans } = props;
  const { listing } = kind;
  const { items } = listing;
  const box = React.useRef<HTMLDivElement>(null);
  const [current, setCurrent] = React.useState(0);
  const wantsFocus = React.useRef(false);
  const virtualizer = useVirtualizer({
    count: items.length,
    getScrollElement: () => box.current,
    estimateSize: () => ROW_PX,
    getItemKey: i => listing.keyOf(items[i]),
    overscan: OVERSCAN
  });
  const shown = virtualizer.getVirtualItems();
  const last = shown[shown.length - 1]?.index ?? -1;
  // Also while fewer are found than there is room for.
  const atEnd = last >= items.length - 1 - AHEAD;
  React.useEffect(() => {
    if (atEnd && listing.hasMore && !listing.isLoading && !listing.isPaused) {
      void listing.loadMore();
    }
  });
  const active = Math.min(current, Math.max(0, items.length - 1));
  React.useLayoutEffect(() => {
    const button = box.current?.querySelector<HTMLElement>(
      `[data-index="${active}"] .jp-aiaas-row-open`
    );
    if (wantsFocus.current && button) {
      wantsFocus.current = false;
      button.focus({ preventScroll: true });
    }
  });
  const move = (event: React.KeyboardEvent): void => {
    const to = {
      ArrowDown: active + 1,
      ArrowUp: active - 1,
      Home: 0,
      End: items.length - 1
    }[event.key];
    if (to === undefined || to < 0 || to >= items.length) {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
    wantsFocus.current = true;
    setCurrent(to);
    virtualizer.scrollToIndex(to);
  };
  return (
    <div className="jp-aiaas-rows" ref={box} onKeyDown={move}>
      <div
        role="list"
        aria-label={kind.title}
        aria-busy={listing.isLoading}
        className="jp-aiaas-rows-all"
        style={{ height: virtualizer.getTotalSize() }}
      >
        {shown.map(({ index, key, start }) => (
          <RowView
            key={key as React.Key}
            row={kind.row(items[index])}
            index={index}
            total={listing.hasMore ? -1 : items.length}
            top={start}
            isActive={index === active}
            onFocus={() => setCurrent(index)}
            actions={actions}
            trans={trans}
          />
        ))}
      </div>
    </div>
  );
}

function RowView(props: {
  row: Row;
  index: number;
  /** -1: nobody knows how many there are. */
  total: number;
  top: number;
  isActive: boolean;
  onFocus: () => void;
  actions: Actions;
  trans: TranslationBundle;
}): JSX.Element {
  const { row, actions, trans } = props;
  const tabIndex = props.isActive ? 0 : -1;
  return (
    <div
      role="listitem"
      className="jp-aiaas-row"
      data-index={props.index}
      aria-posinset={props.index + 1}
      aria-setsize={props.total}
      style={{ transform: `translateY(${props.top}px)`, height: ROW_PX }}
      draggable
      onDragStart={event => {
        // An editor takes text where it is let go, like any other.
        event.dataTransfer.setData('text/plain', row.code);
        event.dataTransfer.effectAllowed = 'copy';
      }}
      onFocus={props.onFocus}
      title={trans.__('Drag it into a cell: %1', row.code)}
    >
      {/* No button: not every browser lets one be dragged. */}
      <div
        role="button"
        className="jp-aiaas-row-open"
        tabIndex={tabIndex}
        onClick={() => actions.open(row.thing)}
        onKeyDown={event => {
          if (event.key === 'Enter' || event.key === ' ') {
            event.preventDefault();
            actions.open(row.thing);
          }
        }}
      >
        <span className="jp-aiaas-row-label">
          <span className="jp-aiaas-row-name">{row.label}</span>
          {row.state && (
            <span className="jp-aiaas-state" data-state={row.state}>
              {row.state}
            </span>
          )}
        </span>
        <span className="jp-aiaas-row-detail">{row.detail}</span>
      </div>
      <button
        className="jp-aiaas-row-insert"
        tabIndex={tabIndex}
        aria-label={trans.__('Insert code for %1', row.label)}
        onClick={() => actions.insert(row.code)}
      >
        {trans.__('Insert')}
      </button>
    </div>
  );
}
