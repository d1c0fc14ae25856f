// Opens a shared store, changes it and closes it, over and over, with nothing else to live for.
import { openPostgresStore } from '../../src/store/postgres/postgres-store.ts'
import { insert } from '../../src/store/store.ts'

const [address = '', password = ''] = process.argv.slice(2)
for (let n = 0; n < 10; n++) {
  const store = await openPostgresStore({
    address: {
      ...(JSON.parse(address) as { host: string; port: number; user: string; database: string }),
      tls: { mode: 'disable' },
    },
    password: async () => password,
    key: new Uint8Array(32).fill(7),
    mirrored: ['told'],
  })
  await insert(store, 'told', `x${n}`, {})
  await store.close()
}
console.log('closed')
