/**
 * Which scenarios of the conformance suite of MCP are expected to fail, and why. One that fails and does not stand here is
 * a failure of ours; so is one that stands here and passes.
 */
export interface Baseline {
  /** Why scenarios fail, by the beginning of their names. */
  readonly failing: Readonly<Record<string, string>>
  /** Scenarios under one of those beginnings that pass all the same. */
  readonly passing: readonly string[]
}

/** The built gateway: it has its own tools, resources and prompts, and not those the suite looks for. */
export const GATEWAY: Baseline = {
  failing: {
    'tools-call-': 'calls tools of the fixture server',
    'elicitation-sep': 'calls tools of the fixture server',
    'json-schema-2020-12': 'looks for a tool of the fixture server',
    'resources-read-': 'reads resources of the fixture server',
    'resources-templates-read': 'reads a resource of the fixture server',
    'prompts-': 'the gateway offers no prompts',
    caching: 'lists prompts, which the gateway does not offer',
    'completion-complete': 'the gateway offers nothing to complete',
    'logging-set-level': 'the gateway declares no logging',
    'server-stateless': 'four of its checks need diagnostic tools of the fixture server',
    'input-required-result-': 'calls tools of the fixture server',
    'tasks-': 'the gateway declares no tasks; a ticket is what waits',
    'http-custom-header-server-validation': 'calls a tool of the fixture server',
  },
  passing: [
    'input-required-result-missing-input-response',
    'input-required-result-unsupported-methods',
    'input-required-result-ignore-extra-params',
    'input-required-result-validate-input',
    'tasks-status-notifications',
  ],
}

/** The fixture server behind our door. */
export const FIXTURE: Baseline = {
  failing: {
    'tasks-': 'tasks are an extension that neither the fixture nor the gateway declares',
    'server-stateless':
      'one check wants the HTTP status 400 for a capability the client lacks: a tool call may wait for a person, so its ' +
      'headers are sent before it is looked at, and its error comes as a message; no tool of the gateway asks for one',
    'http-custom-header-server-validation':
      'not scored: no tool of the gateway repeats an argument in a header, so the door compares none',
  },
  passing: ['tasks-status-notifications'],
}
