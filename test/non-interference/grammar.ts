/**
 * Writes random statements PostgreSQL mostly accepts: it knows the tables of the proof and the types of their columns, and
 * varies names, joins, nesting, whole rows, windows, grouping, common table expressions, set operations and writes.
 *
 * The same seed writes the same statements.
 */

type Type = 'text' | 'int' | 'num' | 'bool' | 'date' | 'ts' | 'json' | 'texts' | 'other'

interface Table {
  readonly name: string
  readonly columns: Readonly<Record<string, Type>>
  /** Columns a write may assign with good hope. */
  readonly writable?: readonly string[]
}

const TABLES: readonly Table[] = [
  {
    name: 'customers',
    columns: {
      id: 'int',
      name: 'text',
      email: 'text',
      ssn: 'text',
      card: 'text',
      salary: 'num',
      plan: 'text',
      ssn_tail: 'text',
    },
    writable: ['name', 'plan'],
  },
  {
    name: 'orders',
    columns: { id: 'int', customer_id: 'int', note: 'text', amount: 'num', at: 'ts', tags: 'texts', doc: 'json' },
    writable: ['note', 'amount'],
  },
  {
    name: 'products',
    columns: { id: 'int', sku: 'text', title: 'text', price: 'num', kind: 'other', sizes: 'other', seen: 'date' },
    writable: ['title', 'price'],
  },
  {
    name: 'vault',
    columns: {
      id: 'int',
      label: 'text',
      pin: 'int',
      flag: 'bool',
      born: 'date',
      seen: 'ts',
      doc: 'json',
      tags: 'texts',
      key: 'other',
      address: 'other',
      level: 'other',
      span: 'other',
    },
    writable: ['label'],
  },
  { name: '"Odd ""Name"', columns: { id: 'int', '"Secret.Col"': 'text', keeper: 'other' } },
  { name: 'parted', columns: { id: 'int', ssn: 'text', note: 'text' }, writable: ['note'] },
  { name: 'parted_high', columns: { id: 'int', ssn: 'text', note: 'text' } },
  { name: 'base', columns: { id: 'int', ssn: 'text', note: 'text' }, writable: ['note'] },
  { name: 'child', columns: { id: 'int', ssn: 'text', note: 'text', extra: 'int' }, writable: ['note', 'extra'] },
  { name: 'sink', columns: { id: 'int', note: 'text' }, writable: ['id', 'note'] },
  { name: 'checked', columns: { id: 'int', ssn: 'text', note: 'text' }, writable: ['note'] },
  { name: 'other.customers', columns: { id: 'int', ssn: 'text' }, writable: ['ssn'] },
  { name: 'order_view', columns: { id: 'int', note: 'text' } },
  { name: 'order_mat', columns: { id: 'int', amount: 'num' } },
]

const SQL_TYPES: Readonly<Record<Type, string>> = {
  text: 'text',
  int: 'int',
  num: 'numeric',
  bool: 'boolean',
  date: 'date',
  ts: 'timestamptz',
  json: 'jsonb',
  texts: 'text[]',
  other: 'text',
}

/** Something a name in FROM gives: its alias and what can be asked of it. */
interface Source {
  readonly alias: string
  readonly columns: Readonly<Record<string, Type>>
  /** Whether a whole row of it may be spoken of. */
  readonly isTable: boolean
}

type Scope = readonly Source[]

/** A statement, and whether it was meant to change anything. */
export interface Written {
  readonly sql: string
  readonly isWrite: boolean
}

/** One sequence of random statements. */
export class Writer {
  #state: number
  #names = 0
  #ctes: Source[] = []

  constructor(seed: number) {
    this.#state = seed
  }

  next(): Written {
    this.#names = 0
    this.#ctes = []
    if (this.#chance(0.14)) return { sql: this.#write(), isWrite: true }
    const query = this.#with(2)
    return {
      sql: this.#weighted([
        [40, () => query],
        [1, () => `EXPLAIN (COSTS off) ${query}`],
        [1, () => `EXPLAIN (VERBOSE, COSTS off) ${query}`],
        [0.5, () => `COPY (${query}) TO STDOUT`],
        [0.5, () => `COPY ${this.#pick(TABLES).name} TO STDOUT (FORMAT csv)`],
        [0.5, () => `DECLARE c CURSOR FOR ${query}`],
        [0.5, () => `PREPARE p AS ${query}`],
        [0.5, () => `CREATE TEMP TABLE made AS ${query}`],
        [1, () => `TABLE ${this.#pick(TABLES).name}`],
      ]),
      isWrite: false,
    }
  }

  #random(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }

  #chance(probability: number): boolean {
    return this.#random() < probability
  }

  #pick<T>(list: readonly T[]): T {
    return list[Math.floor(this.#random() * list.length)] as T
  }

  #weighted<T>(choices: readonly (readonly [weight: number, make: () => T])[]): T {
    let left = this.#random() * choices.reduce((sum, [weight]) => sum + weight, 0)
    for (const [weight, make] of choices) {
      left -= weight
      if (left < 0) return make()
    }
    return (choices.at(-1) as readonly [number, () => T])[1]()
  }

  #alias(): string {
    const at = this.#names++
    // Names that collide with tables and columns on purpose.
    return this.#chance(0.1) ? this.#pick(['customers', 'orders', 'ssn', 'note', 'c0']) + at : `a${at}`
  }

  // Queries

  #with(depth: number): string {
    if (!this.#chance(0.2)) return this.#query([], depth)
    const before = this.#ctes
    const parts: string[] = []
    const isRecursive = this.#chance(0.2)
    for (let i = 0; i <= (this.#chance(0.3) ? 1 : 0); i++) {
      // A name that hides a table, as often as not.
      const alias = this.#chance(0.4) ? this.#pick(['customers', 'orders', 'vault', 'sink']) : `w${this.#names++}`
      if (this.#ctes.some((cte) => cte.alias === alias)) continue
      const hint = this.#pick(['', '', 'MATERIALIZED ', 'NOT MATERIALIZED '])
      const body = isRecursive
        ? `SELECT 1 AS n, 'r'::text AS t UNION ALL SELECT n + 1, ${this.#pick(['t', "t || 'x'", '(SELECT max(ssn) FROM public.customers)'])} FROM ${alias} WHERE n < 4`
        : this.#columns([], depth - 1, { n: 'int', t: 'text' })
      parts.push(`${alias}${this.#chance(0.2) ? '(n, t)' : ''} AS ${hint}(${body})`)
      this.#ctes = [...this.#ctes, { alias, columns: { n: 'int', t: 'text' }, isTable: false }]
    }
    const sql = `WITH ${isRecursive ? 'RECURSIVE ' : ''}${parts.join(', ')} ${this.#query([], depth)}`
    this.#ctes = before
    return sql
  }

  #query(outer: Scope, depth: number): string {
    if (this.#chance(0.1)) {
      const op = this.#pick(['UNION', 'UNION ALL', 'INTERSECT', 'EXCEPT', 'EXCEPT ALL'])
      const shape: Readonly<Record<string, Type>> = { n: 'int', t: 'text' }
      return `${this.#columns(outer, depth - 1, shape)} ${op} ${this.#columns(outer, depth - 1, shape)} ORDER BY 1, 2`
    }
    const { from, scope } = this.#from(outer, depth)
    const all = [...scope, ...outer]
    const where = this.#chance(0.45) ? ` WHERE ${this.#boolean(all, depth)}` : ''
    return this.#weighted([
      [5, () => this.#plain(from, where, scope, all, depth)],
      [2, () => this.#grouped(from, where, scope, all, depth)],
      [1, () => this.#star(from, where, scope)],
      [1, () => this.#byKey(where, outer, depth)],
    ])
  }

  /** A query with exactly these columns, for where their names and types matter. */
  #columns(outer: Scope, depth: number, shape: Readonly<Record<string, Type>>): string {
    const { from, scope } = this.#from(outer, Math.max(0, depth))
    const all = [...scope, ...outer]
    const list = Object.entries(shape).map(([name, type]) => `${this.#value(type, all, depth)} AS ${name}`)
    const where = this.#chance(0.3) ? ` WHERE ${this.#boolean(all, depth)}` : ''
    return `SELECT ${list.join(', ')} FROM ${from}${where}`
  }

  #plain(from: string, where: string, scope: Scope, all: Scope, depth: number): string {
    const list = Array.from(
      { length: 1 + Math.floor(this.#random() * 3) },
      (_, i) => `${this.#item(all, scope, depth)} AS c${i}`,
    )
    const distinct = this.#chance(0.1) ? 'DISTINCT ' : ''
    const order = this.#chance(0.5) ? ` ORDER BY ${distinct === '' ? this.#order(all, depth) : '1'}` : ''
    const limit = order !== '' && this.#chance(0.3) ? ` LIMIT ${Math.floor(this.#random() * 5)}` : ''
    const offset = limit !== '' && this.#chance(0.2) ? ' OFFSET 1' : ''
    const lock = distinct === '' && outermost(scope) && this.#chance(0.03) ? ' FOR UPDATE' : ''
    return `SELECT ${distinct}${list.join(', ')} FROM ${from}${where}${order}${limit}${offset}${lock}`
  }

  #star(from: string, where: string, scope: Scope): string {
    const one = this.#pick(scope)
    const list = this.#pick(['*', `${one.alias}.*`, `${one.alias}.*, 1 AS one`, one.isTable ? one.alias : '*'])
    return `SELECT ${list} FROM ${from}${where}`
  }

  #grouped(from: string, where: string, scope: Scope, all: Scope, depth: number): string {
    const keys = [this.#column(this.#pick(['text', 'int'] as const), scope) ?? '1', this.#value('text', scope, 0)]
    const [key = '1', second = '2'] = keys
    const by = this.#weighted([
      [4, () => key],
      [1, () => `GROUPING SETS ((${key}), ())`],
      [1, () => `ROLLUP (${key})`],
      [1, () => `CUBE (${key})`],
    ])
    const shown = key === '1' ? "'one'" : key
    const total = this.#aggregate(all, depth)
    const having = this.#chance(0.2) ? ` HAVING count(${second}) > 0` : ''
    return `SELECT ${shown} AS c0, ${total} AS c1, count(*) AS c2 FROM ${from}${where} GROUP BY ${by === '1' ? "'one'::text" : by}${having} ORDER BY 1, 2, 3`
  }

  /** A primary key stands for its whole row in GROUP BY. */
  #byKey(where: string, outer: Scope, depth: number): string {
    const { name, columns } = this.#pick(
      TABLES.filter((table) => ['customers', 'orders', 'vault'].includes(table.name)),
    )
    const alias = this.#alias()
    const scope: Scope = [{ alias, columns, isTable: true }]
    const shown = this.#pick([
      `${alias}.*`,
      Object.keys(columns)
        .slice(0, 3)
        .map((column) => `${alias}.${column}`)
        .join(', '),
    ])
    const condition = where === '' ? '' : ` WHERE ${this.#boolean([...scope, ...outer], depth)}`
    return `SELECT ${shown}, count(o.id) AS c1 FROM public.${name} ${alias} LEFT JOIN orders o ON o.customer_id = ${alias}.id${condition} GROUP BY ${alias}.id ORDER BY ${alias}.id`
  }

  #from(outer: Scope, depth: number): { readonly from: string; readonly scope: Scope } {
    const scope: Source[] = []
    let from = ''
    do {
      const isFirst = scope.length === 0
      const { text, source, isLateral } = this.#source(outer, scope, depth)
      if (isFirst) from = text
      else if (isLateral) from += `${this.#pick([' CROSS JOIN LATERAL ', ', LATERAL '])}${text}`
      else {
        const shared = Object.keys(source.columns).filter(
          (name) => scope.length === 1 && scope[0] && name in scope[0].columns,
        )
        from += this.#weighted([
          [4, () => ` ${this.#pick(['JOIN', 'LEFT JOIN', 'RIGHT JOIN'])} ${text} ON ${this.#on(scope, source)}`],
          [
            1,
            () =>
              shared.includes('id')
                ? ` ${this.#pick(['JOIN', 'LEFT JOIN', 'FULL JOIN'])} ${text} USING (id)`
                : ` CROSS JOIN ${text}`,
          ],
          [0.3, () => ` NATURAL JOIN ${text}`],
          [0.7, () => ` CROSS JOIN ${text}`],
        ])
      }
      scope.push(source)
    } while (this.#chance(0.4) && scope.length < 3)
    return { from, scope }
  }

  #on(left: Scope, right: Source): string {
    const type = this.#pick(['int', 'int', 'int', 'text'] as const)
    const a = this.#column(type, left)
    const b = this.#column(type, [right])
    return a === undefined || b === undefined ? 'true' : `${a} = ${b}`
  }

  #source(
    outer: Scope,
    left: Scope,
    depth: number,
  ): { readonly text: string; readonly source: Source; readonly isLateral?: boolean } {
    const alias = this.#alias()
    return this.#weighted<{ readonly text: string; readonly source: Source; readonly isLateral?: boolean }>([
      [10, () => this.#table(alias)],
      [
        this.#ctes.length > 0 ? 6 : 0,
        () => {
          const cte = this.#pick(this.#ctes)
          return { text: `${cte.alias} ${alias}`, source: { ...cte, alias } }
        },
      ],
      [
        depth > 0 ? 2 : 0,
        () => ({
          text: `(${this.#columns([], depth - 1, { n: 'int', t: 'text' })}) ${alias}`,
          source: { alias, columns: { n: 'int', t: 'text' }, isTable: false },
        }),
      ],
      [
        depth > 0 && left.length > 0 ? 2 : 0,
        () => ({
          text: `(${this.#columns([...left, ...outer], depth - 1, { n: 'int', t: 'text' })}) ${alias}`,
          source: { alias, columns: { n: 'int', t: 'text' }, isTable: false },
          isLateral: true,
        }),
      ],
      [
        1,
        () => ({ text: `generate_series(1, 3) ${alias}(n)`, source: { alias, columns: { n: 'int' }, isTable: false } }),
      ],
      [
        1,
        () => ({
          text: `(VALUES (1, 'a'), (2, NULL)) ${alias}(n, t)`,
          source: { alias, columns: { n: 'int', t: 'text' }, isTable: false },
        }),
      ],
      [
        left.length > 0 ? 1 : 0,
        () => ({
          text: `unnest(${this.#value('texts', left, 0)}) ${alias}(t)`,
          source: { alias, columns: { t: 'text' }, isTable: false },
          isLateral: true,
        }),
      ],
    ])
  }

  #table(alias: string): { readonly text: string; readonly source: Source } {
    const table = this.#pick(TABLES)
    const isQualified = !table.name.includes('.') && this.#chance(0.3)
    const name = `${this.#chance(0.06) ? 'ONLY ' : ''}${isQualified ? 'public.' : ''}${table.name}${this.#chance(0.03) ? ' *' : ''}`
    if (!name.includes('*') && this.#chance(0.06)) {
      // Renamed in order: the first columns get other names, the rest keeps its own.
      const [[, first], ...rest] = Object.entries(table.columns) as [[string, Type], ...[string, Type][]]
      return {
        text: `${name} AS ${alias}(q)`,
        source: { alias, columns: { q: first, ...Object.fromEntries(rest) }, isTable: true },
      }
    }
    return { text: `${name} ${alias}`, source: { alias, columns: table.columns, isTable: true } }
  }

  // Expressions

  #item(all: Scope, scope: Scope, depth: number): string {
    const row = this.#pick(scope)
    return this.#weighted([
      [
        8,
        () =>
          this.#value(
            this.#pick(['text', 'text', 'int', 'num', 'bool', 'date', 'ts', 'json', 'texts', 'other'] as const),
            all,
            depth,
          ),
      ],
      [1.5, () => this.#window(all, depth)],
      [
        row.isTable ? 1 : 0,
        () =>
          this.#pick([
            row.alias,
            `${row.alias}::text`,
            `row_to_json(${row.alias})`,
            `to_jsonb(${row.alias})`,
            `${row.alias} IS NULL`,
            `ROW(${row.alias}.*)`,
            `num_nulls(${row.alias})`,
          ]),
      ],
      [1, () => `CAST(${this.#value('text', all, depth)} AS varchar(4))`],
      [0.3, () => `(${this.#value('text', all, 0)})::int`],
    ])
  }

  #order(all: Scope, depth: number): string {
    const direction = this.#pick(['', ' DESC', ' NULLS FIRST', ' DESC NULLS LAST'])
    return this.#pick([
      `1${direction}`,
      `${this.#value('text', all, Math.min(depth, 0))}${direction}, 1`,
      `${this.#value('int', all, 0)}${direction}, 1`,
    ])
  }

  #window(all: Scope, depth: number): string {
    const over = `(${this.#chance(0.4) ? `PARTITION BY ${this.#value('text', all, 0)} ` : ''}ORDER BY ${this.#value('int', all, 0)}, ${this.#value('text', all, 0)}${this.#chance(0.2) ? ' ROWS BETWEEN 1 PRECEDING AND CURRENT ROW' : ''})`
    const call = this.#weighted([
      [2, () => `lag(${this.#value('text', all, depth - 1)})`],
      [1, () => 'row_number()'],
      [1, () => 'rank()'],
      [1, () => 'ntile(2)'],
      [1, () => `first_value(${this.#value('text', all, depth - 1)})`],
      [1, () => `count(${this.#value('text', all, depth - 1)})`],
      [1, () => `sum(${this.#value('int', all, depth - 1)})`],
      [0.5, () => `string_agg(${this.#value('text', all, depth - 1)}, ',')`],
    ])
    return `${call} OVER ${over}`
  }

  #aggregate(all: Scope, depth: number): string {
    const filter = this.#chance(0.15) ? ` FILTER (WHERE ${this.#boolean(all, 0)})` : ''
    return `${this.#weighted([
      [2, () => `count(${this.#chance(0.4) ? 'DISTINCT ' : ''}${this.#value('text', all, depth - 1)})`],
      [1, () => `max(${this.#value('text', all, depth - 1)})`],
      [1, () => `sum(${this.#value('num', all, depth - 1)})`],
      [1, () => `bool_or(${this.#boolean(all, depth - 1)})`],
      [
        1,
        () =>
          `string_agg(${this.#value('text', all, 0)}, ',' ORDER BY ${this.#value('int', all, 0)}, ${this.#value('text', all, 0)})`,
      ],
      [
        1,
        () =>
          `array_agg(${this.#value('int', all, 0)} ORDER BY ${this.#value('text', all, 0)}, ${this.#value('int', all, 0)})`,
      ],
      [
        0.5,
        () =>
          `jsonb_agg(${this.#value('json', all, 0)} ORDER BY ${this.#value('int', all, 0)}, ${this.#value('text', all, 0)})`,
      ],
    ])}${filter}`
  }

  #column(type: Type, scope: Scope): string | undefined {
    const found = scope.flatMap(({ alias, columns }) =>
      Object.entries(columns).flatMap(([name, one]) => (one === type ? [`${alias}.${name}`] : [])),
    )
    return found.length === 0 ? undefined : this.#pick(found)
  }

  #value(type: Type, scope: Scope, depth: number): string {
    const column = this.#column(type, scope)
    if (column !== undefined && (depth <= 0 || this.#chance(0.45))) return column
    if (depth <= 0) return this.#constant(type)
    return this.#weighted<string>([
      [1, () => this.#constant(type)],
      [1, () => `coalesce(${this.#value(type, scope, depth - 1)}, ${this.#constant(type)})`],
      [1, () => `CASE WHEN ${this.#boolean(scope, depth - 1)} THEN ${this.#value(type, scope, depth - 1)} END`],
      [0.7, () => `nullif(${this.#value(type, scope, depth - 1)}, ${this.#constant(type)})`],
      [1, () => this.#scalar(type, scope, depth - 1)],
      [4, () => this.#made(type, scope, depth - 1)],
    ])
  }

  #scalar(type: Type, scope: Scope, depth: number): string {
    if (type === 'json' || type === 'other' || type === 'texts') return this.#constant(type)
    const total = type === 'bool' ? 'bool_and(t)' : 'max(t)'
    return `(SELECT ${total} FROM (${this.#columns(scope, depth, { t: type })}) s)`
  }

  #made(type: Type, scope: Scope, depth: number): string {
    const text = (): string => this.#value('text', scope, depth)
    const int = (): string => this.#value('int', scope, depth)
    switch (type) {
      case 'text':
        return this.#pick([
          () => `upper(${text()})`,
          () => `${text()} || ${text()}`,
          () => `substr(${text()}, 2, 3)`,
          () => `left(${text()}, 4)`,
          () => `md5(${text()})`,
          () => `replace(${text()}, 'a', ${text()})`,
          () => `${int()}::text`,
          () => `${this.#value('num', scope, depth)}::text`,
          () => `${this.#value('date', scope, depth)}::text`,
          () => `${this.#value('json', scope, depth)}->>'a'`,
          () => `(${this.#value('texts', scope, depth)})[1]`,
          () => `${this.#value('other', scope, depth)}::text`,
          () => `concat(${text()}, ${int()})`,
          () => `reverse(${text()})`,
          () => `format('%s', ${text()})`,
          () => `encode(convert_to(${text()}, 'UTF8'), 'base64')`,
          () => `greatest(${text()}, ${text()})`,
        ])()
      case 'int':
        return this.#pick([
          () => `length(${text()})`,
          () => `${int()} + 1`,
          () => `abs(${int()})`,
          () => `position('a' in ${text()})`,
          () => `ascii(${text()})`,
          () => `coalesce(array_length(${this.#value('texts', scope, depth)}, 1), 0)`,
          () => `(${this.#boolean(scope, depth)})::int`,
          () => `${int()} % 3`,
          () => `hashtext(${text()})`,
          () => `num_nonnulls(${text()}, ${int()})`,
        ])()
      case 'num':
        return this.#pick([
          () => `${int()} * 1.5`,
          () => `round(${this.#value('num', scope, depth)}, 1)`,
          () => `-(${this.#value('num', scope, depth)})`,
        ])()
      case 'bool':
        return this.#boolean(scope, depth)
      case 'date':
        return this.#pick([
          () => `${this.#value('date', scope, depth)} + 1`,
          () => `(${this.#value('ts', scope, depth)})::date`,
        ])()
      case 'ts':
        return this.#pick([
          () => `date_trunc('day', ${this.#value('ts', scope, depth)})`,
          () => `(${this.#value('date', scope, depth)})::timestamptz`,
        ])()
      case 'json':
        return this.#pick([
          () => `to_jsonb(${text()})`,
          () => `jsonb_build_object('k', ${text()}, 'n', ${int()})`,
          () => `${this.#value('json', scope, depth)} || '{"z":1}'`,
          () => `jsonb_build_array(${text()}, ${this.#value('num', scope, depth)})`,
        ])()
      case 'texts':
        return this.#pick([
          () => `ARRAY[${text()}, ${text()}]`,
          () => `string_to_array(${text()}, 'a')`,
          () => `${this.#value('texts', scope, depth)} || ${text()}`,
        ])()
      default:
        return this.#column('other', scope) ?? 'NULL'
    }
  }

  #boolean(scope: Scope, depth: number): string {
    const column = this.#column('bool', scope)
    const type = this.#pick(['text', 'int', 'num', 'date'] as const)
    const left = (): string => this.#value(type, scope, depth - 1)
    return this.#weighted<string>([
      [4, () => `${left()} ${this.#pick(['=', '<', '>=', '<>', 'IS DISTINCT FROM'])} ${left()}`],
      [1, () => `${left()} IS ${this.#pick(['', 'NOT '])}NULL`],
      [
        1,
        () =>
          `${this.#value('text', scope, depth - 1)} ${this.#pick(['LIKE', 'ILIKE', 'NOT LIKE'])} ${this.#pick(["'zq%'", "'%a%'", "'name _'"])}`,
      ],
      [1, () => `${this.#value('int', scope, depth - 1)} IN (1, 2, ${this.#value('int', scope, 0)})`],
      [1, () => `${this.#value('int', scope, depth - 1)} BETWEEN 1 AND 4`],
      [column === undefined ? 0 : 2, () => column ?? 'true'],
      [
        depth > 0 ? 1 : 0,
        () => `${this.#pick(['', 'NOT '])}EXISTS (${this.#columns(scope, depth - 1, { t: 'text' })})`,
      ],
      [
        depth > 0 ? 1 : 0,
        () => `${this.#value('text', scope, 0)} IN (${this.#columns(scope, depth - 1, { t: 'text' })})`,
      ],
      [
        depth > 0 ? 1 : 0,
        () => `(${this.#boolean(scope, depth - 1)} ${this.#pick(['AND', 'OR'])} ${this.#boolean(scope, depth - 1)})`,
      ],
      [depth > 0 ? 0.5 : 0, () => `NOT (${this.#boolean(scope, depth - 1)})`],
      [0.3, () => `${this.#value('json', scope, depth - 1)} @> '{"a":1}'`],
      [0.3, () => `'a' = ANY (${this.#value('texts', scope, depth - 1)})`],
    ])
  }

  #constant(type: Type): string {
    switch (type) {
      case 'text':
        return this.#pick(["'x'", "'name 1'", "''", "'note 3'", 'NULL::text'])
      case 'int':
        return this.#pick(['0', '1', '3', '7', 'NULL::int'])
      case 'num':
        return this.#pick(['1.5', '20', '0'])
      case 'bool':
        return this.#pick(['true', 'false'])
      case 'date':
        return "date '2024-01-03'"
      case 'ts':
        return "timestamptz '2020-01-01Z'"
      case 'json':
        return this.#pick([`'{"a":1}'::jsonb`, `'[]'::jsonb`])
      case 'texts':
        return "'{a,b}'::text[]"
      default:
        return `NULL::${SQL_TYPES[type]}`
    }
  }

  // Writes

  #write(): string {
    const table = this.#pick(TABLES.filter(({ writable }) => writable !== undefined))
    const scope: Scope = [{ alias: 't', columns: table.columns, isTable: true }]
    const column = this.#pick(table.writable ?? [])
    const type = table.columns[column] ?? 'text'
    const any = this.#pick(Object.keys(table.columns))
    const clear = this.#chance(0.7)
    const value = clear ? this.#constant(type) : this.#value(type, scope, 1)
    const where = clear ? `t.id = ${1 + Math.floor(this.#random() * 9)}` : this.#boolean(scope, 1)
    const returning = this.#pick([
      '',
      ' RETURNING t.id',
      ` RETURNING t.${column}, t.id`,
      ' RETURNING *',
      ` RETURNING t.${any}`,
      ' RETURNING to_jsonb(t)',
      ` RETURNING old.${any}`,
    ])
    const id = 100 + Math.floor(this.#random() * 40)
    const isKeyed = ['customers', 'orders', 'products', 'vault', 'checked'].includes(table.name)
    const columns = table.name === 'customers' ? `id, name` : column === 'id' ? 'id' : `id, ${column}`
    const given =
      table.name === 'customers' ? `${id}, 'made'` : column === 'id' ? `${id}` : `${id}, ${this.#constant(type)}`
    const conflict = isKeyed
      ? this.#pick([
          '',
          ' ON CONFLICT DO NOTHING',
          ` ON CONFLICT (id) DO UPDATE SET ${column} = ${this.#pick([`excluded.${column}`, `t.${column}`, value])}`,
        ])
      : ''
    return this.#weighted([
      [3, () => `UPDATE ${table.name} t SET ${column} = ${value} WHERE ${where}${returning}`],
      [
        1,
        () =>
          `UPDATE ${table.name} AS t SET ${column} = ${this.#constant(type)} FROM orders o WHERE o.id = t.id AND ${where}${returning}`,
      ],
      [3, () => `INSERT INTO ${table.name} AS t (${columns}) VALUES (${given})${conflict}${returning}`],
      [
        1,
        () =>
          `INSERT INTO sink AS t (id, note) ${this.#columns([], 1, { n: 'int', t: 'text' })} LIMIT 2${this.#pick(['', ' RETURNING t.*'])}`,
      ],
      [
        2,
        () =>
          `DELETE FROM ${table.name} t WHERE t.id ${this.#pick(['> 99', '= 3', 'IS NULL'])} AND ${where}${returning}`,
      ],
      [
        1,
        () =>
          `DELETE FROM sink t USING ${this.#pick(TABLES).name} u WHERE t.id = u.id AND ${where.replaceAll(/\bt\.\w+/gu, 't.id')}`,
      ],
      [
        1,
        () =>
          `MERGE INTO ${table.name} t USING (${this.#columns([], 0, { n: 'int', t: 'text' })} LIMIT 1) s ON t.id = s.n WHEN MATCHED THEN ${this.#pick(['DO NOTHING', `UPDATE SET ${column} = ${value}`])}`,
      ],
      [
        1,
        () =>
          `WITH w AS (UPDATE ${table.name} t SET ${column} = ${value} WHERE t.id = 2${returning === '' ? ' RETURNING t.id' : returning}) SELECT * FROM w`,
      ],
      [
        0.5,
        () =>
          `WITH w AS (DELETE FROM sink t WHERE t.id > 120 RETURNING t.id, t.note) INSERT INTO sink SELECT id - 20, note FROM w`,
      ],
    ])
  }
}

/** Whether rows of it can be locked at all. */
function outermost(scope: Scope): boolean {
  return scope.every(({ isTable }) => isTable)
}
