import type { AttributeSpec, Taxonomy } from '../core/action.ts'
import { renderKind } from './condition-types.ts'
import { PART_FIELDS, VARIABLES } from './facts.ts'

/**
 * Writes the reference of everything a policy may name: verbs, classes, attributes and bundles of each protocol, and
 * what conditions can read. Made from the same data that validates policies, so it cannot say anything else.
 */
export function renderTaxonomy(taxonomies: readonly Taxonomy[]): string {
  const lines = [
    '# Policy reference',
    '',
    'What policies can name, per protocol. How to write one is told in [policies.md](policies.md). This file is generated',
    'from the taxonomies; a test keeps it current.',
    '',
    '## What every condition can read',
    '',
    ...table(
      ['Name', 'Type', 'Meaning'],
      [
        ...Object.entries(PART_FIELDS).map(([name, [kind, summary]]) => row(`part.${name}`, renderKind(kind), summary)),
        row('action.verbs', 'list(string)', 'The verbs of all parts of the call.'),
        ...Object.entries(VARIABLES).flatMap(([owner, fields]) =>
          Object.entries(fields).map(([name, [kind, summary]]) => row(`${owner}.${name}`, renderKind(kind), summary)),
        ),
      ],
    ),
    ...taxonomies.flatMap(renderProtocol),
  ]
  return `${lines.join('\n').trimEnd()}\n`
}

function renderProtocol(taxonomy: Taxonomy): readonly string[] {
  const { protocol, prefix, verbs, actionAttributes, bundles } = taxonomy
  const attributes = new Map<string, { readonly spec: AttributeSpec; readonly verbs: string[] }>()
  for (const { verb, attributes: own } of verbs) {
    for (const [name, spec] of Object.entries(own)) {
      const key = JSON.stringify([name, spec.type, spec.summary])
      const known = attributes.get(key)
      if (known === undefined) attributes.set(key, { spec, verbs: [verb] })
      else known.verbs.push(verb)
    }
  }
  return [
    `## ${protocol}: \`${prefix}.*\``,
    '',
    ...table(
      ['Action', 'Class', 'Meaning'],
      verbs.map(({ verb, class: kind, summary }) => row(verb, kind, summary)),
    ),
    ...(attributes.size === 0 ? [] : ['### Attributes of parts', '']),
    ...table(
      ['Attribute', 'Type', 'Meaning', 'Actions'],
      [...attributes].map(([key, { spec, verbs: having }]) => {
        const [name = ''] = JSON.parse(key) as readonly string[]
        const which = having.length === verbs.length ? 'all' : having.map((verb) => `\`${verb}\``).join(', ')
        return [`\`part.${name}\``, spec.type, spec.summary, which]
      }),
    ),
    ...(Object.keys(actionAttributes).length === 0 ? [] : ['### Attributes of the whole call', '']),
    ...table(
      ['Attribute', 'Type', 'Meaning'],
      Object.entries(actionAttributes).map(([name, { type, summary }]) => row(`action.${name}`, type, summary)),
    ),
    ...(Object.keys(bundles).length === 0 ? [] : ['### Bundles', '']),
    ...Object.entries(bundles).flatMap(([name, { summary, grants }]) => [
      `\`bundle:${name}\`: ${summary}`,
      '',
      ...table(
        ['Action', 'Resources'],
        grants.map(({ verb, resources }) => [`\`${verb}\``, resources.map((text) => `\`${text}\``).join(', ')]),
      ),
    ]),
  ]
}

function row(name: string, type: string, summary: string): readonly string[] {
  return [`\`${name}\``, type, summary]
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): readonly string[] {
  if (rows.length === 0) return []
  const write = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|').replaceAll('\n', ' ')).join(' | ')} |`
  return [write(head), write(head.map(() => '---')), ...rows.map(write), '']
}
