/**
 * A form to ask an endpoint, and programs that do: a row or a text to type over, or a picture; and
 * who answered what.
 */

import * as React from 'react';

import { useLoaded } from './loaded';
import { plain } from './logTail';
import { Given, PictureField } from './pictureField';
import { asServiceError, ServiceError } from './serviceError';
import { Trouble } from './trouble';
import { Reading, Table, ViewProps } from './viewParts';
import { Endpoint, Trial, TrialAnswer } from './wire';

interface TrialProps extends ViewProps {
  endpoint: Endpoint;
}

export function TrialForm(props: TrialProps): JSX.Element {
  const { thing, platform, trans, isShown, endpoint } = props;
  const { owner, name } = thing;
  // Another version may take other rows.
  const serving = Object.keys(endpoint.traffic).join(' ');
  const trial = useLoaded(
    signal => platform.service.trial(owner, name, signal),
    `trial of ${serving}`,
    isShown,
    0
  );
  return (
    <>
      <h3>{trans.__('Try it')}</h3>
      <Reading loaded={trial} trans={trans}>
        {known =>
          known.takes ? (
            <>
              <Ask {...props} trial={known} key={known.takes} />
              <Programs {...props} trial={known} />
            </>
          ) : (
            <div className="jp-aiaas-muted">
              {trans.__('It answers nothing yet.')}
            </div>
          )
        }
      </Reading>
    </>
  );
}

function Ask(props: TrialProps & { trial: Trial }): JSX.Element {
  const { thing, platform, trans, trial, endpoint } = props;
  const { owner, name } = thing;
  const [text, setText] = React.useState(trial.sample);
  const [byPicture, setByPicture] = React.useState(
    trial.picture?.is_likely ?? false
  );
  const [given, setGiven] = React.useState<Given | null>(null);
  const [version, setVersion] = React.useState(0);
  const [busy, setBusy] = React.useState(false);
  const [answer, setAnswer] = React.useState<TrialAnswer | null>(null);
  const [refusal, setRefusal] = React.useState<ServiceError | null>(null);
  const ask = async (): Promise<void> => {
    setBusy(true);
    setRefusal(null);
    try {
      const what =
        byPicture && given ? { picture: given.picture } : { text: text };
      const question = { ...what, version: version || null };
      setAnswer(await platform.service.ask(owner, name, question));
    } catch (error) {
      setAnswer(null);
      setRefusal(asServiceError(error));
    }
    setBusy(false);
  };
  const versions = Object.keys(endpoint.traffic).map(Number);
  return (
    <form
      className="jp-aiaas-trial"
      onSubmit={event => {
        event.preventDefault();
        void ask();
      }}
    >
      {/* Where files are taken, nothing can be typed. */}
      {trial.picture && trial.sample && (
        <div role="radiogroup" aria-label={trans.__('What to send')}>
          {[true, false].map(one => (
            <label key={String(one)}>
              <input
                type="radio"
                name={`${owner}/${name}`}
                checked={byPicture === one}
                onChange={() => setByPicture(one)}
              />
              {one ? trans.__('a picture') : trans.__('rows')}
            </label>
          ))}
        </div>
      )}
      {trial.picture && byPicture ? (
        <PictureField
          form={trial.picture}
          given={given}
          give={setGiven}
          trans={trans}
        />
      ) : (
        <>
          <label>
            {trial.takes_text ? trans.__('Text') : trans.__('Rows')}
            <textarea
              className="jp-mod-styled"
              rows={3}
              spellCheck={trial.takes_text}
              value={text}
              onChange={event => setText(event.target.value)}
            />
          </label>
          <div className="jp-aiaas-muted">{plain(trial.takes)}</div>
        </>
      )}
      <div className="jp-aiaas-actions">
        <label>
          {trans.__('Ask')}{' '}
          <select
            className="jp-mod-styled"
            value={version}
            onChange={event => setVersion(Number(event.target.value))}
          >
            <option value={0}>{trans.__('as the traffic goes')}</option>
            {versions.map(one => (
              <option key={one} value={one}>
                {trans.__('version %1', one)}
              </option>
            ))}
          </select>
        </label>
        <button
          className="jp-mod-styled jp-mod-accept"
          disabled={busy || (byPicture && !given)}
        >
          {trans.__('Ask it')}
        </button>
      </div>
      {refusal && (
        <Trouble trouble={refusal} again={() => void ask()} trans={trans} />
      )}
      <div role="status">
        {answer && (
          <>
            {/* Of our own server's making, whatever the file was. */}
            {answer.seen.startsWith('data:image/png;base64,') && (
              <img
                className="jp-aiaas-seen"
                src={answer.seen}
                alt={trans.__('The picture as it was sent')}
              />
            )}
            <Table
              label={trans.__('Answer')}
              head={answer.titles}
              rows={answer.lines}
            />
            <div className="jp-aiaas-muted">{plain(answer.said)}</div>
          </>
        )}
      </div>
    </form>
  );
}

function Programs(props: TrialProps & { trial: Trial }): JSX.Element {
  const { trans, trial, actions } = props;
  const languages = Object.keys(trial.programs);
  const [chosen, setChosen] = React.useState(languages[0] ?? '');
  const program = trial.programs[chosen] ?? '';
  return (
    <>
      <div className="jp-aiaas-actions">
        <label>
          {trans.__('A program that calls it')}{' '}
          <select
            className="jp-mod-styled"
            value={chosen}
            onChange={event => setChosen(event.target.value)}
          >
            {languages.map(one => (
              <option key={one}>{one}</option>
            ))}
          </select>
        </label>
        <button
          className="jp-mod-styled"
          aria-label={trans.__('Copy the program')}
          onClick={() => actions.copy(program)}
        >
          {trans.__('Copy')}
        </button>
      </div>
      <pre
        className="jp-aiaas-program"
        tabIndex={0}
        role="region"
        aria-label={trans.__('Program')}
      >
        {program}
      </pre>
    </>
  );
}
