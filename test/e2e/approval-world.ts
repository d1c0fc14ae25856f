import { ApproverDesk } from './approver-desk.ts'
import { RawClient } from './raw-postgres.ts'
import { openWorld, type World, type WorldOptions } from './world.ts'

/** A world with an agent of sam's in `agents`, and with dora, a person in `dba`, at her desk. Whoever opens it closes it. */
export interface ApprovalWorld {
  readonly world: World
  /** The agent's token. */
  readonly agent: string
  readonly desk: ApproverDesk
  /** How many rows there are; of a table in `public`, and what may follow its name. */
  count(where: string): Promise<number>
  /** The agent at the PostgreSQL door. Whoever logs it in ends it. */
  login(parameters?: Readonly<Record<string, string>>): Promise<RawClient>
  close(): Promise<void>
}

export async function openApprovalWorld(options: WorldOptions): Promise<ApprovalWorld> {
  const postgres = '{address: "127.0.0.1:0", auth: password, connections: 60}'
  const world = await openWorld({ postgres, ...options })
  try {
    const agent = await world.token({
      principal: 'loop',
      kind: 'agent',
      owner: 'sam',
      groups: ['agents'],
      roles: ['caller'],
    })
    const dba = await world.token({
      principal: 'dora',
      kind: 'person',
      owner: 'dora',
      groups: ['dba'],
      roles: ['approver'],
    })
    return {
      world,
      agent,
      desk: new ApproverDesk(world, dba),
      async count(where) {
        const { rows } = await world.db.admin.query<{ n: number }>(`SELECT count(*)::int AS n FROM public.${where}`)
        return rows[0]?.n ?? -1
      },
      login: async (parameters = {}) => (await RawClient.login(world.wirePort, agent, { parameters })).client,
      close: () => world.close(),
    }
  } catch (error) {
    await world.close()
    throw error
  }
}
