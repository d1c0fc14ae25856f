import { readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { NODES } from '../../src/protocols/postgres/grammar.ts'

const generator = new URL('../setup/postgres-grammar.mjs', import.meta.url)

it('the list of nodes is the one the parser comes with', async () => {
  const { GRAMMAR_FILE, grammarNodes } = (await import(generator.href)) as {
    readonly GRAMMAR_FILE: string
    readonly grammarNodes: () => Readonly<Record<string, string>>
  }
  expect(NODES).toEqual(grammarNodes())
  expect(readFileSync(GRAMMAR_FILE, 'utf8')).toContain('Do not edit.')
})

it('the list of nodes holds nothing that only the analysis makes', () => {
  for (const name of ['Query', 'Var', 'FuncExpr', 'TargetEntry', 'RangeTblEntry'])
    expect(NODES).not.toHaveProperty(name)
})
