/**
 * Objects of a cluster as tables, names and sentences.
 *
 * @packageDocumentation
 */

/** What a command says in one sentence; `undefined` where its result is an object to be written. */
export function sentenceOf(command: string, value: unknown): string | undefined {
  if (command === 'can_i') {
    const status = at(value, 'status')
    const why = textOf(at(status, 'reason'))
    return `${at(status, 'allowed') === true ? 'yes' : 'no'}${why === '' ? '' : ` (${why})`}\n`
  }
  return command === 'rollout_status' ? rolloutOf(value) : undefined
}

/** How far a rollout is, from the same fields kubectl reads. */
function rolloutOf(value: unknown): string {
  const kind = textOf(at(value, 'kind')).toLowerCase()
  const name = textOf(at(value, 'metadata', 'name'))
  const count = (...path: string[]): number => numberOf(at(value, ...path))
  if (numberOf(at(value, 'metadata', 'generation')) > count('status', 'observedGeneration')) {
    return `${kind} "${name}": the change has not been seen yet\n`
  }
  const isDaemon = kind === 'daemonset'
  const wanted = isDaemon ? count('status', 'desiredNumberScheduled') : count('spec', 'replicas')
  const updated = isDaemon ? count('status', 'updatedNumberScheduled') : count('status', 'updatedReplicas')
  const ready = isDaemon
    ? count('status', 'numberAvailable')
    : count('status', kind === 'statefulset' ? 'readyReplicas' : 'availableReplicas')
  const all = isDaemon ? wanted : count('status', 'replicas')
  if (updated >= wanted && ready >= wanted && all <= Math.max(updated, wanted)) {
    return `${kind} "${name}" successfully rolled out\n`
  }
  return `${kind} "${name}": ${updated} of ${wanted} updated, ${ready} available, ${Math.max(0, all - updated)} old\n`
}

/** `deployment.apps/web`, one to a line. */
export function namesOf(value: unknown): string {
  const items = at(value, 'items')
  const rows = at(value, 'rows')
  const list = Array.isArray(items) ? items : Array.isArray(rows) ? rows.map((row) => at(row, 'object')) : [value]
  return list.map((item) => `${nameOf(item)}\n`).join('')
}

function nameOf(item: unknown): string {
  const name = textOf(at(item, 'metadata', 'name'))
  const kind = textOf(at(item, 'kind')).toLowerCase()
  const version = textOf(at(item, 'apiVersion'))
  const group = version.includes('/') ? `.${version.split('/')[0]}` : ''
  return kind === '' || kind === 'partialobjectmetadata' ? name : `${kind}${group}/${name}`
}

/** A table of whatever came: one the server made, rows of metrics or of a drain, or the names of objects. */
export function tableOf(value: unknown): string {
  if (at(value, 'kind') === 'Table') return serverTable(value)
  if (at(value, 'kind') === 'Drain') {
    const pods = listOf(at(value, 'pods'))
    return aligned([
      ['NAMESPACE', 'NAME', 'RESULT'],
      ...pods.map((pod) => ['namespace', 'name', 'result'].map((key) => textOf(at(pod, key)))),
    ])
  }
  const items = listOf(at(value, 'items') ?? [value])
  if (items.some((item) => at(item, 'usage') !== undefined || at(item, 'containers') !== undefined))
    return metrics(items)
  const head = ['NAMESPACE', 'NAME', 'CREATED']
  const rows = items.map((item) => [
    textOf(at(item, 'metadata', 'namespace')),
    nameOf(item),
    textOf(at(item, 'metadata', 'creationTimestamp')),
  ])
  return aligned([head, ...rows])
}

function serverTable(table: unknown): string {
  const columns = listOf(at(table, 'columnDefinitions'))
  const shown = columns.flatMap((column, index) => (numberOf(at(column, 'priority')) === 0 ? [index] : []))
  const rows = listOf(at(table, 'rows'))
  const namespaces = rows.map((row) => textOf(at(row, 'object', 'metadata', 'namespace')))
  const isMixed = new Set(namespaces).size > 1
  const head = shown.map((index) => textOf(at(columns[index], 'name')).toUpperCase())
  const body = rows.map((row, index) => {
    const cells = listOf(at(row, 'cells'))
    return [...(isMixed ? [namespaces[index] ?? ''] : []), ...shown.map((column) => cellOf(cells[column]))]
  })
  const more =
    textOf(at(table, 'metadata', 'continue')) === '' ? '' : '(There is more: ask with a selector, or a larger limit.)\n'
  return body.length === 0
    ? 'No resources found.\n'
    : aligned([[...(isMixed ? ['NAMESPACE'] : []), ...head], ...body]) + more
}

function metrics(items: readonly unknown[]): string {
  const rows = items.map((item) => {
    const containers = listOf(at(item, 'containers'))
    const usages = containers.length === 0 ? [at(item, 'usage')] : containers.map((one) => at(one, 'usage'))
    const all = (key: string): string => usages.map((usage) => textOf(at(usage, key))).join('+')
    return [textOf(at(item, 'metadata', 'namespace')), textOf(at(item, 'metadata', 'name')), all('cpu'), all('memory')]
  })
  return aligned([['NAMESPACE', 'NAME', 'CPU', 'MEMORY'], ...rows])
}

function aligned(rows: readonly (readonly string[])[]): string {
  const empty = rows[0]?.map((_, column) => rows.slice(1).every((row) => (row[column] ?? '') === '')) ?? []
  const kept = rows.map((row) => row.filter((_, column) => empty[column] !== true || rows.length === 1))
  const widths = (kept[0] ?? []).map((_, column) => Math.max(...kept.map((row) => (row[column] ?? '').length)))
  return kept
    .map(
      (row) =>
        `${row
          .map((cell, column) => cell.padEnd(widths[column] ?? 0))
          .join('   ')
          .trimEnd()}\n`,
    )
    .join('')
}

function cellOf(value: unknown): string {
  if (value === null || value === undefined) return '<none>'
  return typeof value === 'string' ? value : JSON.stringify(value)
}

function at(value: unknown, ...path: readonly string[]): unknown {
  let found = value
  for (const key of path) {
    found = typeof found === 'object' && found !== null ? (found as Readonly<Record<string, unknown>>)[key] : undefined
  }
  return found
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : []
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : ''
}

function numberOf(value: unknown): number {
  return typeof value === 'number' ? value : 0
}
