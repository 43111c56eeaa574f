/** A page with one component in it, and what somebody does there. */

import axe from 'axe-core';
import * as React from 'react';
import { act } from 'react';
import { createRoot, Root } from 'react-dom/client';
import { afterEach, beforeEach, expect, vi } from 'vitest';

export class TestPage {
  node!: HTMLElement;

  /** For each test of the file that calls this. */
  constructor() {
    beforeEach(() => {
      vi.stubGlobal('IS_REACT_ACT_ENVIRONMENT', true);
      HTMLCanvasElement.prototype.getContext = () => null;
      this.node = document.body.appendChild(document.createElement('main'));
      this._root = createRoot(this.node);
    });
    afterEach(() => {
      act(() => this._root.unmount());
      this.node.remove();
      vi.unstubAllGlobals();
    });
  }

  get text(): string {
    return this.node.textContent ?? '';
  }

  /** Return when what it reads at once is read. */
  async show(shown: React.ReactElement): Promise<void> {
    await act(async () => this._root.render(shown));
  }

  button(name: string): HTMLButtonElement {
    const found = [...this.node.querySelectorAll('button')].find(
      one => (one.getAttribute('aria-label') ?? one.textContent ?? '') === name
    );
    expect(found, `a button ${name}`).toBeDefined();
    return found!;
  }

  async click(name: string): Promise<void> {
    await act(async () => this.button(name).click());
  }

  async choose(value: string): Promise<void> {
    await act(async () => {
      const at = this.node.querySelector('select')!;
      at.value = value;
      at.dispatchEvent(new Event('change', { bubbles: true }));
    });
  }

  /** What axe finds wrong, save colours: they are the theme's, and looked at in a browser. */
  async violations(): Promise<string[]> {
    const found = await axe.run(this.node, {
      rules: { 'color-contrast': { enabled: false } }
    });
    return found.violations.map(one => `${one.id}: ${one.nodes[0]?.html}`);
  }

  private _root!: Root;
}
