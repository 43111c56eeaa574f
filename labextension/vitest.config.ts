import { defineConfig } from 'vitest/config';

export default defineConfig({
  // As TypeScript does it: React is imported where it is used.
  esbuild: { jsx: 'transform' },
  test: {
    environment: 'jsdom',
    include: ['tests/**/*.test.{ts,tsx}'],
    // Their modules for Node.js are none that can be imported by name.
    server: { deps: { inline: [/@lumino/] } }
  }
});
