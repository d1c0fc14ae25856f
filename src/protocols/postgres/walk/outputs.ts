import { asList, text, unwrap, words, type Ast } from '../ast.ts'
import { hasColumn, itemsNamed, itemsOfRelation, outputOf, step, type Item, type Level, type Output } from '../scope.ts'
import { outputName } from '../output-name.ts'
import { asFields } from './context.ts'
import type { Origin, Star } from './findings.ts'

/** The columns a target list yields. */
export function outputsOf(list: unknown, items: readonly Item[]): Output {
  const names: string[] = []
  let open = false
  for (const entry of asList(list)) {
    const fields = asFields(unwrap(entry)?.fields)
    const star = starOf(fields['val'])
    if (star !== undefined && fields['name'] === undefined) {
      const all = outputOf(star === '' ? items : items.filter((item) => item.name === star))
      step(all.names.length)
      for (const one of all.names) names.push(one)
      open ||= all.isOpen || (star !== '' && all.names.length === 0)
      continue
    }
    const name = typeof fields['name'] === 'string' ? fields['name'] : outputName(fields['val'])
    if (name === undefined) open = true
    else names.push(name)
  }
  return { names, isOpen: open }
}

/** The `*` and `t.*` in the list of a SELECT. */
export function starsOf(clause: Ast, level: Level): readonly Star[] {
  const stars: Star[] = []
  let isPlain: boolean | undefined
  for (const [index, entry] of asList(clause['targetList']).entries()) {
    const ref = unwrap(asFields(unwrap(entry)?.fields)['val'])
    const items = ref?.type === 'ColumnRef' ? starItems(ref.fields, level) : undefined
    if (ref === undefined || items === undefined) continue
    isPlain ??= !hasMergingJoin(clause['fromClause'])
    stars.push({ clause, index, ref: ref.fields, items, isPlain })
  }
  return stars
}

/** What `*`, `t.*` or `schema.t.*` shows; undefined for anything else. */
export function starItems(ref: Ast, level: Level): readonly Item[] | undefined {
  const list = asList(ref['fields'])
  if (unwrap(list.at(-1))?.type !== 'A_Star') return undefined
  const [first = '', second = '', third = ''] = words(list.slice(0, -1)) ?? []
  if (list.length === 1) return level.items
  if (list.length === 2) return itemsNamed(level, first)
  return list.length === 3 ? itemsOfRelation(level, first, second) : itemsOfRelation(level, second, third)
}

/** Columns a plain target list shows unchanged. Joins that merge columns move positions, so `*` over them is not told. */
export function originsOf(fields: Ast, items: readonly Item[]): readonly (Origin | undefined)[] | undefined {
  const origins: (Origin | undefined)[] = []
  for (const entry of asList(fields['targetList'])) {
    const value = asFields(unwrap(entry)?.fields)['val']
    const star = starOf(value)
    if (star !== undefined) {
      const meant = star === '' ? items : items.filter((item) => item.name === star)
      const isPlain = meant.length > 0 && meant.every((item) => item.use !== undefined)
      if (!isPlain || (star === '' && hasMergingJoin(fields['fromClause']))) return undefined
      for (const item of meant) for (const column of item.columns.values()) origins.push(originOf(item, column))
      continue
    }
    const ref = unwrap(value)
    const path = ref?.type === 'ColumnRef' ? words(ref.fields['fields']) : undefined
    const name = path?.at(-1)
    const named = items.filter((item) => path?.length === 1 || (path?.length === 2 && item.name === path[0]))
    const holders = name === undefined ? [] : named.filter((item) => hasColumn(item, name))
    const [only] = holders
    origins.push(
      only !== undefined && holders.length === 1 ? originOf(only, only.columns.get(name ?? '') ?? '') : undefined,
    )
  }
  return origins
}

function originOf(item: Item, column: string): Origin | undefined {
  return item.use === undefined || column === '' ? undefined : { use: item.use, column }
}

/** The qualifier of `q.*`, empty for `*`, undefined for anything else. */
function starOf(value: unknown): string | undefined {
  const ref = unwrap(value)
  if (ref?.type !== 'ColumnRef') return undefined
  const list = asList(ref.fields['fields'])
  if (unwrap(list.at(-1))?.type !== 'A_Star') return undefined
  return list.length === 1 ? '' : text(asFields(unwrap(list[list.length - 2])?.fields)['sval'])
}

/** Whether a join merges columns, so that `*` does not show each item's columns in order. */
export function hasMergingJoin(list: unknown): boolean {
  return asList(list).some((entry) => {
    const one = unwrap(entry)
    if (one?.type !== 'JoinExpr') return false
    const { fields } = one
    return (
      fields['isNatural'] === true ||
      fields['usingClause'] !== undefined ||
      hasMergingJoin([fields['larg'], fields['rarg']])
    )
  })
}
