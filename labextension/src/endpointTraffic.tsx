/** The slider that shares an endpoint's requests between two of its versions. */

import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { Endpoint } from './wire';

/** The two versions that share the requests, or could, the older one first. */
export function pair(endpoint: Endpoint): [number, number] | null {
  const known = new Set(
    [...Object.keys(endpoint.traffic), ...Object.keys(endpoint.former)].map(
      Number
    )
  );
  const [newer, older] = [...known].sort((a, b) => b - a);
  return older === undefined ||
    newer === undefined ||
    !Object.keys(endpoint.traffic).length
    ? null
    : [older, newer];
}

export function TrafficSlider(props: {
  endpoint: Endpoint;
  busy: boolean;
  set: (traffic: Record<string, number>) => void;
  trans: TranslationBundle;
}): JSX.Element | null {
  const { endpoint, trans } = props;
  const both = pair(endpoint);
  const now = both ? (endpoint.traffic[both[1]] ?? 0) : 0;
  const [share, setShare] = React.useState(now);
  // Somebody else's change moves it; what is being set here stays until then.
  React.useEffect(() => setShare(now), [now, both?.[1]]);
  if (!both || endpoint.state === 'retired') {
    return null;
  }
  const [older, newer] = both;
  const underway = ['staging', 'verifying'].includes(endpoint.state);
  const text = trans.__('v%1 %2 %, v%3 %4 %', older, 100 - share, newer, share);
  return (
    <div className="jp-aiaas-actions">
      <label>
        {trans.__('Share of v%1', newer)}{' '}
        <input
          type="range"
          min={0}
          max={100}
          step={1}
          value={share}
          aria-valuetext={text}
          disabled={props.busy || underway}
          onChange={event => setShare(Number(event.target.value))}
        />
      </label>
      <span>{text}</span>
      <button
        className="jp-mod-styled"
        disabled={props.busy || underway || share === now}
        onClick={() => props.set({ [older]: 100 - share, [newer]: share })}
      >
        {trans.__('Set the traffic')}
      </button>
    </div>
  );
}
