/**
 * What a decision costs: 1,000 rules on one target, of which 200 reach their condition, every call different, nothing
 * cached. The conditions differ too, so that no two rules can share an answer.
 *
 * Run with `node --import tsx bench/decide.ts`.
 */
import type { Part, Taxonomy } from '../src/core/action.ts'
import type { Target } from '../src/core/target.ts'
import { decide, type Question } from '../src/policy/decide.ts'
import { loadPolicy } from '../src/policy/load.ts'

const RULES = 1000
const REACHING = 200
const CALLS = 20_000
const WARM_UP = 5000

const taxonomy: Taxonomy = {
  protocol: 'postgres',
  prefix: 'sql',
  verbs: ['select', 'insert', 'update', 'delete'].map((name) => ({
    verb: `sql.${name}`,
    class: name === 'select' ? 'read' : 'write',
    summary: name,
    attributes: {
      has_where: { type: 'bool', summary: 'Whether there is a WHERE.' },
      columns_written: { type: 'list(string)', summary: 'Columns written.' },
      relations: { type: 'int', summary: 'Relations in the statement.' },
    },
  })),
  actionAttributes: {},
  bundles: {},
}

const target: Target = {
  name: 'db',
  protocol: 'postgres',
  labels: {},
  mode: 'enforce',
  record: 'full',
  endpoint: 'db:5432',
  options: {},
}

/** Conditions of the kinds the documentation shows, each with a constant of its own. */
function condition(index: number): string {
  switch (index % 4) {
    case 0:
      return `part.has_where && !('c${index}' in part.columns_written)`
    case 1:
      return `part.relations < ${index + 10}`
    case 2:
      return `principal.id != 'intruder-${index}'`
    default:
      return `part.has_where || session.door == 'door-${index}'`
  }
}

function rule(index: number): string {
  const effect = index % 10 === 9 ? 'require_approval' : 'allow'
  const approvers = effect === 'allow' ? '' : ', approvers: {any_of: [group:dba]}'
  const head = `id: r${index}, effect: ${effect}${approvers}`
  if (index < REACHING) {
    const when = JSON.stringify(condition(index))
    return `{${head}, principals: [group:agents], actions: ["sql.*"], resources: ["public.*"], when: ${when}}`
  }
  // The others fail, in equal shares, on the table, on a pattern, on the caller and on the action.
  const misses = [
    `principals: [group:agents], actions: ["sql.*"], resources: [public.table_${index}]`,
    `principals: [group:agents], actions: ["sql.*"], resources: ["ref_${index}_*.*"]`,
    `principals: [group:team-${index}], actions: ["sql.*"], resources: ["public.*"]`,
    `principals: [group:agents], actions: [sql.delete], resources: ["public.*"]`,
  ]
  return `{${head}, ${misses[index % 4] ?? ''}}`
}

const text = `targets: [db]\nrules:\n${Array.from({ length: RULES }, (_, index) => `  - ${rule(index)}`).join('\n')}\n`
const loadStart = performance.now()
const loaded = loadPolicy([{ path: 'bench.yaml', text }], { targets: [target], taxonomies: [taxonomy] })
const loadMs = performance.now() - loadStart
if (loaded.policy === undefined) throw new Error(JSON.stringify(loaded.problems.slice(0, 3)))
const policy = loaded.policy

function question(index: number): Question {
  const part: Part = {
    verb: 'sql.update',
    resource: { type: 'sql', name: `public.orders_${index}`, columns: [`column_${index}`] },
    attributes: { has_where: true, columns_written: [`column_${index}`, 'status'], relations: 1 + (index % 7) },
  }
  return {
    principal: { id: `agent-${index}`, kind: 'agent', groups: ['agents', 'staff'], roles: ['caller'], owner: 'maria' },
    target,
    session: { id: `session-${index}`, door: 'mcp' },
    action: { parts: [part], attributes: {} },
    now: 1_700_000_000_000 + index,
  }
}

const samples: number[] = []
let cpu = process.cpuUsage()
for (let index = 0; index < CALLS + WARM_UP; index++) {
  if (index === WARM_UP) cpu = process.cpuUsage()
  const asked = question(index)
  const start = performance.now()
  const decision = decide(policy, asked)
  const microseconds = (performance.now() - start) * 1000
  if (decision.effect !== 'require_approval' || decision.parts[0]?.rules.length !== REACHING) {
    throw new Error(`The benchmark does not measure what it says: ${JSON.stringify(decision).slice(0, 300)}`)
  }
  if (index >= WARM_UP) samples.push(microseconds)
}
const { user, system } = process.cpuUsage(cpu)
samples.sort((a, b) => a - b)
const at = (share: number): string => (samples[Math.floor(samples.length * share)] ?? 0).toFixed(1)
console.log(
  `${RULES} rules, ${REACHING} reach their condition, ${CALLS} distinct calls; loaded in ${loadMs.toFixed(0)} ms`,
)
console.log(
  `decision p50 ${at(0.5)} µs  p90 ${at(0.9)} µs  p99 ${at(0.99)} µs  CPU ${((user + system) / CALLS).toFixed(1)} µs`,
)
