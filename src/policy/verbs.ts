import type { ActionClass, BundleSpec, Taxonomy, VerbSpec } from '../core/action.ts'
import { compileGlob } from './glob.ts'
import { nearest } from './problem.ts'

/** Classes a rule may name. `unknown` is no class one can allow or deny wholesale (C4). */
const CLASSES: readonly ActionClass[] = ['read', 'write', 'admin', 'exec', 'session']

/** Every verb and bundle the gateway knows, over all protocols. */
export interface Vocabulary {
  readonly taxonomies: readonly Taxonomy[]
  readonly verbs: ReadonlyMap<string, VerbSpec>
  readonly bundles: ReadonlyMap<string, BundleSpec>
  /** Attributes of whole actions, over all protocols. */
  readonly actionAttributes: Taxonomy['actionAttributes']
}

/** Joins the taxonomies. @throws Error when two protocols claim one verb: that is a mistake in the program. */
export function vocabularyOf(taxonomies: readonly Taxonomy[]): Vocabulary {
  const verbs = new Map<string, VerbSpec>()
  const bundles = new Map<string, BundleSpec>()
  const actionAttributes: Record<string, Taxonomy['actionAttributes'][string]> = {}
  for (const taxonomy of taxonomies) {
    for (const spec of taxonomy.verbs) {
      if (verbs.has(spec.verb)) throw new Error(`The verb ${spec.verb} is described twice.`)
      verbs.set(spec.verb, spec)
    }
    for (const [name, spec] of Object.entries(taxonomy.bundles)) bundles.set(name, spec)
    for (const [name, spec] of Object.entries(taxonomy.actionAttributes)) {
      const other = actionAttributes[name]
      actionAttributes[name] = other === undefined || other.type === spec.type ? spec : { ...spec, type: 'dyn' }
    }
  }
  return { taxonomies, verbs, bundles, actionAttributes }
}

/** Whether a verb says "not understood" (C4). A verb no taxonomy lists is not understood either. */
export function isUnknownVerb(verb: string, vocabulary: Vocabulary): boolean {
  const spec = vocabulary.verbs.get(verb)
  return spec === undefined || spec.class === 'unknown' || verb.endsWith('.unknown')
}

/** What an entry of `actions` stands for. */
export type Selected =
  | { readonly verbs: readonly string[] }
  | { readonly bundle: string; readonly spec: BundleSpec }
  | { readonly problem: string }

/**
 * Resolves one entry of `actions`: a verb, `sql.*`, `class:write` or `bundle:sql.client`.
 *
 * Resolved at load into concrete verbs, so that nothing is matched by pattern while calls wait, and a verb that is not
 * understood can be reached by its own name only.
 */
export function selectVerbs(entry: string, vocabulary: Vocabulary): Selected {
  if (entry.startsWith('bundle:')) {
    const bundle = entry.slice('bundle:'.length)
    const spec = vocabulary.bundles.get(bundle)
    if (spec !== undefined) return { bundle, spec }
    return { problem: `There is no bundle "${bundle}".${nearest(bundle, vocabulary.bundles.keys())}` }
  }
  if (entry.startsWith('class:')) {
    const wanted = entry.slice('class:'.length)
    if (wanted === 'unknown') {
      return { problem: 'What is not understood is no class: name its verb, such as sql.unknown.' }
    }
    if (!CLASSES.some((name) => name === wanted)) {
      return { problem: `There is no class "${wanted}"; classes are ${CLASSES.join(', ')}.${nearest(wanted, CLASSES)}` }
    }
    return { verbs: understood(vocabulary, (spec) => spec.class === wanted) }
  }
  if (entry.includes('*')) {
    const segments = entry.split('.').map(compileGlob)
    if (segments.length < 2 || entry.startsWith('*')) {
      return { problem: `"${entry}" names no protocol; write ${prefixes(vocabulary)}, or a class such as class:write.` }
    }
    const verbs = understood(vocabulary, ({ verb }) => {
      const words = verb.split('.')
      return words.length === segments.length && segments.every((glob, index) => glob(words[index] ?? ''))
    })
    return verbs.length > 0 ? { verbs } : { problem: `"${entry}" matches no action.` }
  }
  if (vocabulary.verbs.has(entry)) return { verbs: [entry] }
  return { problem: `There is no action "${entry}".${nearest(entry, vocabulary.verbs.keys())}` }
}

function understood(vocabulary: Vocabulary, wanted: (spec: VerbSpec) => boolean): string[] {
  return [...vocabulary.verbs.values()]
    .filter((spec) => !isUnknownVerb(spec.verb, vocabulary) && spec.byNameOnly !== true && wanted(spec))
    .map(({ verb }) => verb)
}

function prefixes(vocabulary: Vocabulary): string {
  return vocabulary.taxonomies.map(({ prefix }) => `${prefix}.*`).join(' or ')
}
