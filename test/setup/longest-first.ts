/** Suites that take longest begin first, so that no worker is left alone with one of them at the end. */
import { BaseSequencer, type TestSpecification } from 'vitest/node'

/** Those of more than some twenty seconds, the longest first. */
const LONGEST = [
  'regress/regress',
  'regress/door',
  'non-interference/random-18',
  'non-interference/random-15',
  'non-interference/corpora-18',
  'non-interference/corpora-15',
  'e2e/instances',
  'e2e/kube-door',
  'non-interference/wire-15',
  'e2e/doors-count-alike',
  'e2e/conformance',
  'e2e/faults',
  'e2e/crash',
  'ssh/differential',
  'e2e/kube-verbs',
  'postgres-wire/codec-bytes',
].map((name) => `/test/${name}.test.ts`)

export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const others = await super.sort(files)
    const rank = ({ moduleId }: TestSpecification): number => {
      const at = LONGEST.findIndex((name) => moduleId.endsWith(name))
      return at === -1 ? LONGEST.length : at
    }
    return others.toSorted((a, b) => rank(a) - rank(b))
  }
}
