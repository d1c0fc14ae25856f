/** Kinds the API server knows from a definition only, whose tables show whatever the definition says. */
import { describe, expect, it, vi } from 'vitest'
import type { KubeWorld } from './kube-door-world.ts'
import { HOPE } from './kube-settled.ts'

const DEFINITION = {
  metadata: { name: 'safes.example.com' },
  spec: {
    group: 'example.com',
    scope: 'Namespaced',
    names: { plural: 'safes', singular: 'safe', kind: 'Safe' },
    versions: [
      {
        name: 'v1',
        served: true,
        storage: true,
        schema: { openAPIV3Schema: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true } },
        additionalPrinterColumns: [
          { name: 'Code', type: 'string', jsonPath: '.spec.password' },
          { name: 'Color', type: 'string', jsonPath: '.spec.color' },
          { name: 'All', type: 'string', jsonPath: '.spec', priority: 1 },
        ],
      },
    ],
  },
}
const CODE = 'open-Sesame-77'
const SAFES = '/apis/example.com/v1/namespaces/shop/safes'

/** @param run kubectl, which must succeed; returns what it printed. */
export function describeKinds(world: () => KubeWorld, run: (args: readonly string[]) => Promise<string>): void {
  describe('kinds of a definition', () => {
    it('show in their tables what their objects show, and no more', async () => {
      const { api } = world().kube
      expect(await api('POST', '/apis/apiextensions.k8s.io/v1/customresourcedefinitions', DEFINITION)).toMatchObject({
        status: 201,
      })
      await vi.waitUntil(async () => (await api('GET', SAFES)).status === 200, HOPE)
      const safe = {
        apiVersion: 'example.com/v1',
        kind: 'Safe',
        metadata: { name: 'big' },
        spec: { password: CODE, color: 'red' },
      }
      expect(await api('POST', SAFES, safe)).toMatchObject({ status: 201 })
      // What is tested is a table that would show it.
      const { body } = await api('GET', SAFES)
      expect(JSON.stringify(body)).toContain(CODE)
      for (const output of [[], ['-o', 'wide'], ['-o', 'yaml'], ['-o', 'jsonpath={.items[*].spec}']]) {
        const text = await run(['get', 'safes', '-n', 'shop', ...output])
        expect(text).not.toContain(CODE)
        expect(text).toContain('***')
      }
      expect(await run(['get', 'safes', '-n', 'shop'])).toMatch(/^NAME +CODE +COLOR\nbig +\*\*\* +red\n$/u)
      const stop = new AbortController()
      const watched = await world().kubectl(['get', 'safes', '-n', 'shop', '-w'], {
        signal: stop.signal,
        // A row is written cell by cell: only its end says that all of it was.
        onOutput: (text: string) => /big.*\n/u.test(text) && stop.abort(),
      })
      expect(watched.stdout).toMatch(/big +\*\*\* +red\n/u)
    })
  })
}
