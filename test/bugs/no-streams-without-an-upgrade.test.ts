import { expect, it } from 'vitest'
import type { Call, Permit } from '../../src/core/call.ts'
import type { Upstream } from '../../src/protocols/kubernetes/connect-send.ts'
import { runApi } from '../../src/protocols/kubernetes/connector.ts'
import { planApi } from '../../src/protocols/kubernetes/plan.ts'

it.each(['exec?command=date', 'attach', 'portforward?ports=80'])(
  'a request for %s that asks for no upgrade runs nothing',
  async (what) => {
    const payload = { kind: 'api', method: 'POST', path: `/api/v1/namespaces/web/pods/p/${what}` }
    const plan = planApi(payload, { masks: [], streams: false })
    // Neither permit nor server is looked at: whatever they are, nothing is opened.
    const chunks = runApi({} as Call, plan, {} as Permit, {} as Upstream)
    await expect(chunks.next()).rejects.toMatchObject({ code: 'ERR_INVALID_INPUT', facts: { noEffect: true } })
  },
)
