import { defineConfig } from 'vitest/config';

export default defineConfig({
  // As TypeScript does it: React is imported where it is used.
  esbuild: { jsx: 'transform' },
  test: {
    environment: 'jsdom',
    include: ['tests/**/*.test.{ts,tsx}'],
    setupFiles: ['tests/jsdom.ts'],
    // Beside other suites axe takes longer than what is usual.
    testTimeout: 30_000,
    // Their modules for Node.js are none that can be imported by name.
    server: { deps: { inline: [/@lumino/] } }
  }
});
