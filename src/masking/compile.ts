import type { RE2JS } from 're2js'
import type { Detection, Transform } from '../core/decision.ts'
import { SallyportError } from '../core/errors.ts'
import type { Detector } from './detectors/detector.ts'
import { DETECTORS } from './detectors/index.ts'
import { compilePattern } from './pattern.ts'

/** What a decision asks to look for, ready to run. */
export interface Compiled {
  readonly declared: readonly { readonly detector: Detector; readonly transform: Transform }[]
  readonly custom: readonly { readonly kind: string; readonly pattern: RE2JS; readonly transform: Transform }[]
  /** How private keys are replaced, when they are looked for. */
  readonly keyBlocks: Transform | undefined
}

const CUSTOM_KIND = /^custom:[A-Za-z][\w-]{0,63}$/

// Decisions repeat their obligations from call to call; the bound keeps many policies from growing it.
const CACHE_MAX = 128
const cache = new Map<string, Compiled>()

/**
 * Compiles the detections of a decision.
 *
 * @throws SallyportError `ERR_POLICY_INVALID` for a detector that does not exist or a pattern that cannot be used:
 * a duty that cannot be performed denies the call.
 */
export function compileDetections(detect: readonly Detection[]): Compiled {
  const key = JSON.stringify(detect.map(({ detector, pattern, transform }) => [detector, pattern ?? null, transform]))
  const known = cache.get(key)
  if (known !== undefined) return known
  const compiled = compile(detect)
  if (cache.size >= CACHE_MAX) cache.delete(cache.keys().next().value ?? '')
  cache.set(key, compiled)
  return compiled
}

function compile(detect: readonly Detection[]): Compiled {
  const declared = new Map<string, { detector: Detector; transform: Transform }>()
  const custom = new Map<string, { kind: string; pattern: RE2JS; transform: Transform }>()
  let keyBlocks: Transform | undefined
  for (const { detector: kind, pattern, transform } of detect) {
    if (pattern !== undefined) {
      if (!CUSTOM_KIND.test(kind)) throw unusable(kind, 'a pattern needs a name of the form custom:<name>')
      const key = JSON.stringify([kind, pattern])
      custom.set(key, {
        kind,
        pattern: compilePattern(kind, pattern),
        transform: combine(custom.get(key)?.transform, transform),
      })
      continue
    }
    const detector = DETECTORS.get(kind)
    if (detector === undefined) throw unusable(kind, 'there is no such detector')
    const combined = combine(declared.get(kind)?.transform, transform)
    if (kind === 'private_key') keyBlocks = combined
    declared.set(kind, { detector, transform: combined })
  }
  declared.delete('private_key') // followed across lines by the text masker
  return { declared: [...declared.values()], custom: [...custom.values()], keyBlocks }
}

/** C5: unequal transforms of one value become `redact`. */
export function combine(one: Transform | undefined, other: Transform): Transform {
  return one === undefined || one === other ? other : 'redact'
}

function unusable(kind: string, why: string): SallyportError {
  return new SallyportError('ERR_POLICY_INVALID', `Detector ${JSON.stringify(kind.slice(0, 80))}: ${why}.`)
}
