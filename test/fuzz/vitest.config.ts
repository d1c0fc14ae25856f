import { defineConfig, mergeConfig } from 'vitest/config'
import base from '../../vitest.config.ts'

export default mergeConfig(
  // Without the plugins of the suites, which have properties try the same cases each time.
  { ...base, plugins: [], test: { ...base.test, include: [] } },
  defineConfig({ test: { include: ['test/**/*.fuzz.ts'], testTimeout: 24 * 3_600_000 } }),
)
