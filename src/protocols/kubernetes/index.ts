export { createKubernetes } from './protocol.ts'
export { KUBERNETES_SETTINGS } from './options.ts'
