/** Markdown and code as JupyterLab itself shows them. */

import { IEditorLanguageRegistry } from '@jupyterlab/codemirror';
import {
  IRenderMime,
  IRenderMimeRegistry,
  MimeModel
} from '@jupyterlab/rendermime';
import { Widget } from '@lumino/widgets';

import { Rendered, Rendering } from './rendering';

const MARKDOWN = 'text/markdown';

export class JupyterRendering implements Rendering {
  constructor(
    private readonly _rendermime: IRenderMimeRegistry,
    private readonly _languages: IEditorLanguageRegistry | null
  ) {}

  /** It is trusted with nothing: JupyterLab's sanitizer is between. */
  markdown(text: string, host: HTMLElement): Rendered {
    const sanitizer = withoutButtons(this._rendermime.sanitizer);
    const renderer = this._rendermime
      .clone({ sanitizer })
      .createRenderer(MARKDOWN);
    Widget.attach(renderer, host);
    const model = new MimeModel({ data: { [MARKDOWN]: text }, trusted: false });
    return {
      ready: renderer.renderModel(model),
      dispose: () => renderer.dispose()
    };
  }

  async python(code: string, host: HTMLElement): Promise<void> {
    if (this._languages === null) {
      host.textContent = code;
      return;
    }
    const language = this._languages.findByMIME('text/x-ipython');
    await this._languages.highlight(code, language, host);
  }
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
