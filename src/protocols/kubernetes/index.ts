export { createKubernetes } from './protocol.ts'
