/**
 * Who may import whom. Arrows point to what may be imported:
 *   doors, protocols/<p>/listener -> gateway -> policy limits approval masking recording credentials identity -> core
 *   protocols/<p> -> core, protocols/shared (never policy, never another protocol); tools -> core; main, cli, config -> everything.
 */
const only = (room, ...may) => ({
  name: `${room}-knows-only-${may.join('-') || 'itself'}`,
  severity: 'error',
  from: { path: `^src/${room}/` },
  to: { path: '^(src|tools)/', pathNot: `^src/(${[room, ...may].join('|')})/` },
})

module.exports = {
  forbidden: [
    { name: 'no-circular', severity: 'error', from: {}, to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } } },
    only('core'),
    only('identity', 'core', 'store'),
    only('policy', 'core'),
    only('limits', 'core', 'store'),
    only('approval', 'core', 'store'),
    only('control', 'core', 'store'),
    only('credentials', 'core'),
    only('masking', 'core'),
    only('recording', 'core'),
    only('telemetry', 'core'),
    only('store', 'core'),
    only('protocols/shared', 'core'),
    only('gateway', 'core', 'policy', 'limits', 'approval', 'masking', 'recording', 'credentials', 'identity'),
    {
      name: 'doors-turn-bytes-into-calls',
      severity: 'error',
      from: { path: '^src/doors/' },
      to: {
        path: '^(src|tools)/',
        pathNot: '^src/(doors|core|gateway|approval|identity|recording|policy|telemetry)/|^tools/',
      },
    },
    {
      name: 'tools-know-only-core',
      severity: 'error',
      from: { path: '^tools/' },
      to: { path: '^(src|tools)/', pathNot: '^(src/core|tools)/' },
    },
    {
      name: 'a-protocol-knows-core-and-itself',
      severity: 'error',
      from: { path: '^src/protocols/([^/]+)/', pathNot: '/listener[^/]*\\.ts$' },
      to: { path: '^(src|tools)/', pathNot: '^src/(core|protocols/(shared|$1))/' },
    },
    {
      name: 'a-listener-knows-the-gateway-too',
      severity: 'error',
      from: { path: '^src/protocols/([^/]+)/listener[^/]*\\.ts$' },
      to: { path: '^(src|tools)/', pathNot: '^src/(core|gateway|identity|protocols/(shared|$1))/' },
    },
    {
      name: 'secrets-are-read-by-gateway-and-main-only',
      severity: 'error',
      from: { path: '^(src|tools)/', pathNot: '^src/(credentials|gateway)/|^src/(main|main-state|config)\\.ts$' },
      to: { path: '^src/credentials/', dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'pure-rooms-do-no-io',
      severity: 'error',
      // In a protocol only the files that speak to its backend or read its settings may do I/O; every other one is pure.
      from: {
        path: '^src/(core|masking)/|^src/policy/(?!load-files|watch)|^src/protocols/[^/]+/(?!index|protocol|connect|exchange|pool|listener|options|catalog-load|messages/|wire/|http-pools)',
      },
      to: { dependencyTypes: ['core'], path: '^(node:)?(fs|net|http|https|child_process|tls|dgram|fs/promises)$' },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'node', 'default', 'types'] },
  },
}
