/** Markdown and code as JupyterLab itself shows them; as text where it cannot. */

import { IEditorLanguageRegistry } from '@jupyterlab/codemirror';
import {
  IRenderMime,
  IRenderMimeRegistry,
  MimeModel
} from '@jupyterlab/rendermime';
import { Widget } from '@lumino/widgets';
import * as React from 'react';

import { plain } from './logTail';

const MARKDOWN = 'text/markdown';

export interface Rendering {
  rendermime: IRenderMimeRegistry;
  languages: IEditorLanguageRegistry | null;
}

/** What the views of a page render with. */
export const Renderings = React.createContext<Rendering | null>(null);

/** What anybody wrote of a thing. It is trusted with nothing: JupyterLab's sanitizer is between. */
export function Markdown(props: { text: string }): JSX.Element {
  const text = lines(props.text);
  const rendermime = React.useContext(Renderings)?.rendermime;
  const host = React.useRef<HTMLDivElement>(null);
  const [isRendered, setRendered] = React.useState(false);
  // Its end comes before the page's, in which its widget still is.
  React.useLayoutEffect(() => {
    if (!rendermime || !host.current) {
      return;
    }
    const sanitizer = withoutButtons(rendermime.sanitizer);
    const renderer = rendermime.clone({ sanitizer }).createRenderer(MARKDOWN);
    let isLeft = false;
    Widget.attach(renderer, host.current);
    renderer
      .renderModel(
        new MimeModel({ data: { [MARKDOWN]: text }, trusted: false })
      )
      .then(
        () => !isLeft && setRendered(true),
        () => undefined
      );
    return () => {
      isLeft = true;
      setRendered(false);
      renderer.dispose();
    };
  }, [rendermime, text]);
  return (
    <div className="jp-aiaas-description">
      {!isRendered && <p>{text}</p>}
      <div ref={host} hidden={!isRendered} />
    </div>
  );
}

/** JupyterLab's own would leave a button its command, and one click of a reader runs that. */
function withoutButtons(
  sanitizer: IRenderMime.ISanitizer
): IRenderMime.ISanitizer {
  const more: object = {
    exclusiveFilter: ({ tag }: { tag: string }) => tag === 'button'
  };
  return {
    sanitize: (dirty, options) =>
      sanitizer.sanitize(dirty, { ...options, ...more })
  };
}

/** Python, in JupyterLab's colours. */
export function Python(props: { code: string; label: string }): JSX.Element {
  const { code } = props;
  const languages = React.useContext(Renderings)?.languages;
  const host = React.useRef<HTMLPreElement>(null);
  React.useEffect(() => {
    const shown = document.createElement('code');
    if (!languages) {
      shown.textContent = code;
      host.current?.replaceChildren(shown);
      return;
    }
    let isLeft = false;
    const put = (): void => {
      if (!isLeft) {
        host.current?.replaceChildren(shown);
      }
    };
    languages
      .highlight(code, languages.findByMIME('text/x-ipython'), shown)
      .then(put, () => {
        shown.textContent = code;
        put();
      });
    return () => {
      isLeft = true;
    };
  }, [languages, code]);
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
