const ONE_ANSWER = 'A call has one answer: get again, or ask for rollout_status.'
const BY_MANIFEST = 'Use create with a manifest.'

/** What to ask for in place of what goes on after an answer, or needs a connection of one's own. */
const INSTEAD: ReadonlyMap<string, string> = new Map([
  ['watch', ONE_ANSWER],
  ['wait', ONE_ANSWER],
  [
    'follow',
    'A call has one answer: read the logs again with since_seconds, or follow them through the Kubernetes door.',
  ],
  ['attach', 'A call has no streams: read logs, or run exec; attach through the Kubernetes door.'],
  ['port_forward', 'A call has no streams: forward ports through the Kubernetes door.'],
  ['cp', 'A call has no streams: copy through the Kubernetes door.'],
  ['edit', 'Use patch or apply.'],
  ['replace', 'Use patch or apply.'],
  ['run', BY_MANIFEST],
  ['expose', BY_MANIFEST],
])

/** What the tool does in place of a verb or flag of kubectl it does not have, with a blank before it; or nothing. */
export function insteadOf(name: string): string {
  const hint = INSTEAD.get(name.replaceAll('-', '_'))
  return hint === undefined ? '' : ` ${hint}`
}
