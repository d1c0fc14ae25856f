import type { ActionClass, Taxonomy } from './core/action.ts'
import type { Target } from './core/target.ts'
import { DETECTORS } from './masking/detectors/index.ts'
import { checkPattern } from './masking/pattern.ts'
import type { Known } from './policy/load.ts'
import { taxonomy as http } from './protocols/http/taxonomy.ts'
import { taxonomy as kubernetes } from './protocols/kubernetes/taxonomy.ts'
import { taxonomy as postgres } from './protocols/postgres/taxonomy.ts'
import { taxonomy as ssh } from './protocols/ssh/taxonomy.ts'

/** What each served protocol lets policies speak of. */
export const TAXONOMIES: readonly Taxonomy[] = [postgres, http, ssh, kubernetes]

/** Everything policies may name on a gateway with these targets. */
export function knownOf(targets: readonly Target[]): Known {
  return { targets, taxonomies: TAXONOMIES, detectors: [...DETECTORS.keys()], checkPattern }
}

/** The class of a verb of any served protocol. */
export function classOf(verb: string): ActionClass | undefined {
  return CLASSES.get(verb)
}

const CLASSES: ReadonlyMap<string, ActionClass> = new Map(
  TAXONOMIES.flatMap(({ verbs }) => verbs).map(({ verb, class: its }) => [verb, its]),
)
