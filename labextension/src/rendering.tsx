/** Markdown and code in colours, by whatever a page has to render them; else as text. */

import * as React from 'react';

import { plain } from './logTail';

export interface Rendering {
  /** Markdown of anybody's, in an element. */
  markdown(text: string, host: HTMLElement): Rendered;
  /** The same of Python. */
  python(code: string, host: HTMLElement): Promise<void>;
}

export interface Rendered {
  ready: Promise<void>;
  dispose(): void;
}

/** What the views of a page render with. */
export const Renderings = React.createContext<Rendering | null>(null);

/** What anybody wrote of a thing. */
export function Markdown(props: { text: string }): JSX.Element {
  const text = lines(props.text);
  const rendering = React.useContext(Renderings);
  const host = React.useRef<HTMLDivElement>(null);
  const [isRendered, setRendered] = React.useState(false);
  // Its end comes before the page's, in which the rendered still is.
  React.useLayoutEffect(() => {
    if (!rendering || !host.current) {
      return;
    }
    const rendered = rendering.markdown(text, host.current);
    let isLeft = false;
    rendered.ready.then(
      () => !isLeft && setRendered(true),
      () => undefined
    );
    return () => {
      isLeft = true;
      setRendered(false);
      rendered.dispose();
    };
  }, [rendering, text]);
  return (
    <div className="jp-aiaas-description">
      {!isRendered && <p>{text}</p>}
      <div ref={host} hidden={!isRendered} />
    </div>
  );
}

export function Python(props: { code: string; label: string }): JSX.Element {
  const { code } = props;
  const rendering = React.useContext(Renderings);
  const host = React.useRef<HTMLPreElement>(null);
  React.useEffect(() => {
    const shown = document.createElement('code');
    shown.textContent = code;
    host.current?.replaceChildren(shown);
    const coloured = document.createElement('code');
    let isLeft = false;
    rendering?.python(code, coloured).then(
      () => !isLeft && host.current?.replaceChildren(coloured),
      () => undefined
    );
    return () => {
      isLeft = true;
    };
  }, [rendering, code]);
  return (
    <pre
      className="jp-aiaas-program"
      ref={host}
      role="region"
      aria-label={props.label}
      tabIndex={0}
    />
  );
}

/** Without what a terminal would obey, or what turns the direction of what follows. */
export function lines(text: string): string {
  return text.split('\n').map(plain).join('\n');
}
