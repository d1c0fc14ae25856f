import { proveCorpora } from './prove.ts'

proveCorpora('18')
