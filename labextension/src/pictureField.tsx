/** A picture to choose or to let go here; the user's own notebook server opens it. */

import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { plain } from './logTail';
import { size } from './readable';
import { PictureForm, Question } from './wire';

export interface Given {
  name: string;
  picture: NonNullable<Question['picture']>;
}

export function PictureField(props: {
  form: PictureForm;
  given: Given | null;
  give: (given: Given | null) => void;
  trans: TranslationBundle;
}): JSX.Element {
  const { form, given, give, trans } = props;
  const scales = Object.entries(form.scales);
  const [scale, setScale] = React.useState(scales[0]?.[0] ?? '');
  const [invert, setInvert] = React.useState(false);
  const [trouble, setTrouble] = React.useState('');
  const [isOver, setOver] = React.useState(false);
  const take = async (file: File | undefined): Promise<void> => {
    if (!file) {
      return;
    }
    if (file.size > form.most_bytes) {
      setTrouble(
        trans.__(
          '%1 is larger than %2: make it smaller.',
          plain(file.name),
          size(form.most_bytes)
        )
      );
      give(null);
      return;
    }
    setTrouble('');
    const content = await base64(file);
    give({ name: file.name, picture: { content, scale, invert } });
  };
  const change = (what: { scale?: string; invert?: boolean }): void => {
    setScale(what.scale ?? scale);
    setInvert(what.invert ?? invert);
    if (given) {
      give({ ...given, picture: { ...given.picture, ...what } });
    }
  };
  return (
    <>
      <div
        className={`jp-aiaas-drop ${isOver ? 'jp-mod-over' : ''}`}
        // A page that lets it go elsewhere would open the file.
        onDragOver={event => {
          event.preventDefault();
          setOver(true);
        }}
        onDragLeave={() => setOver(false)}
        onDrop={event => {
          event.preventDefault();
          event.stopPropagation();
          setOver(false);
          void take(event.dataTransfer.files[0]);
        }}
      >
        <label>
          {trans.__('Picture')}{' '}
          <input
            type="file"
            accept="image/*"
            onChange={event => void take(event.target.files?.[0])}
          />
        </label>
        <span className="jp-aiaas-muted">
          {given ? plain(given.name) : trans.__('or drop one here')}
        </span>
      </div>
      {trouble && (
        <div className="jp-aiaas-error" role="alert">
          {trouble}
        </div>
      )}
      <div className="jp-aiaas-actions">
        {scales.length > 1 && (
          <label>
            {trans.__('Its numbers')}{' '}
            <select
              className="jp-mod-styled"
              value={scale}
              onChange={event => change({ scale: event.target.value })}
            >
              {scales.map(([one, said]) => (
                <option key={one} value={one}>
                  {plain(said)}
                </option>
              ))}
            </select>
          </label>
        )}
        <label>
          <input
            type="checkbox"
            checked={invert}
            onChange={event => change({ invert: event.target.checked })}
          />
          {trans.__('dark becomes bright')}
        </label>
      </div>
      <div className="jp-aiaas-muted">{plain(form.takes)}</div>
    </>
  );
}

function base64(file: File): Promise<string> {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result).replace(/^[^,]*,/, ''));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}
