/** What all views of the main area are made of. */

import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { Actions } from './actions';
import { Thing } from './kinds';
import { Loaded } from './loaded';
import { plain } from './logTail';
import { Platform } from './platform';
import { cell } from './readable';
import { Trouble } from './trouble';

export interface ViewProps {
  thing: Thing;
  platform: Platform;
  actions: Actions;
  trans: TranslationBundle;
  isShown: boolean;
}

/** Its trouble, or that it is being read, or what is made of it. */
export function Reading<T>(props: {
  loaded: Loaded<T>;
  trans: TranslationBundle;
  children: (value: T) => React.ReactNode;
}): JSX.Element {
  const { loaded, trans } = props;
  return (
    <>
      {loaded.trouble && (
        <Trouble trouble={loaded.trouble} again={loaded.again} trans={trans} />
      )}
      {loaded.value === null
        ? !loaded.trouble && (
            <div className="jp-aiaas-muted" role="status">
              {trans.__('Looking …')}
            </div>
          )
        : props.children(loaded.value)}
    </>
  );
}

/** A table of texts, whatever is in them; too wide a one is scrolled, also by keyboard. */
export function Table(props: {
  label: string;
  head: string[];
  rows: unknown[][];
}): JSX.Element {
  return (
    <div
      className="jp-aiaas-table"
      role="region"
      aria-label={props.label}
      tabIndex={0}
    >
      <table>
        <thead>
          <tr>
            {props.head.map((title, i) => (
              <th key={i} scope="col">
                {plain(title)}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {props.rows.map((row, i) => (
            <tr key={i}>
              {row.map((value, j) => (
                <td key={j} data-type={typeof value}>
                  {React.isValidElement(value) ? value : plain(cell(value))}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** Names and what they are, those that are something. */
export function Facts(props: {
  facts: [name: string, value: React.ReactNode][];
}): JSX.Element {
  return (
    <dl className="jp-aiaas-facts">
      {props.facts
        .filter(([, value]) => value !== '' && value !== null)
        .map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{typeof value === 'string' ? plain(value) : value}</dd>
          </div>
        ))}
    </dl>
  );
}

/** Lines to type, each of which can be put into the notebook. */
export function Codes(props: {
  codes: [what: string, code: string][];
  actions: Actions;
  trans: TranslationBundle;
}): JSX.Element {
  const { actions, trans } = props;
  return (
    <ul className="jp-aiaas-codes" aria-label={trans.__('Code')}>
      {props.codes.map(([what, code]) => (
        <li key={what}>
          <span className="jp-aiaas-muted">{what}</span>
          <code
            draggable
            onDragStart={event => {
              event.dataTransfer.setData('text/plain', code);
              event.dataTransfer.effectAllowed = 'copy';
            }}
          >
            {code}
          </code>
          <button
            className="jp-mod-styled jp-mod-minimal"
            aria-label={trans.__('Insert: %1', what)}
            onClick={() => actions.insert(code)}
          >
            {trans.__('Insert')}
          </button>
          <button
            className="jp-mod-styled jp-mod-minimal"
            aria-label={trans.__('Copy: %1', what)}
            onClick={() => actions.copy(code)}
          >
            {trans.__('Copy')}
          </button>
        </li>
      ))}
    </ul>
  );
}

export function Link(props: {
  thing: Thing;
  actions: Actions;
  children: string;
}): JSX.Element {
  return (
    <button
      className="jp-aiaas-link"
      onClick={() => props.actions.open(props.thing)}
    >
      {plain(props.children)}
    </button>
  );
}

export function Versions(props: {
  label: string;
  versions: number[];
  chosen: number;
  choose: (version: number) => void;
}): JSX.Element {
  return (
    <label className="jp-aiaas-versions">
      {props.label}{' '}
      <select
        className="jp-mod-styled"
        value={props.chosen}
        onChange={event => props.choose(Number(event.target.value))}
      >
        {props.versions.map(version => (
          <option key={version} value={version}>
            {version}
          </option>
        ))}
      </select>
    </label>
  );
}
